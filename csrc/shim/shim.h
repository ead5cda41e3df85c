/* cudabuild-shim: stands in front of a compiler, and lets it start when the broker says that there is memory for it.
 *
 * It is called under the compiler's name (from a folder that is first on PATH, or as nvcc of a toolkit view), or with
 * the compiler's command line as its own (CMAKE_CXX_COMPILER_LAUNCHER). What compiles or links is a unit: its shim
 * asks the broker, waits, runs the compiler as a child and passes everything on. All else is exec'd at once.
 *
 * Environment:
 *   CUDABUILD_SOCKET        the broker's socket; without it every call is exec'd at once
 *   CUDABUILD_TOKEN         of the build that this call belongs to, or the path of a file that holds it
 *   CUDABUILD_BROKER        a command for sh that starts the broker, should it be gone
 *   CUDABUILD_PLACES        folders whose names differ between builds of one package, separated by colons; an
 *                           ending "/" + "*" means that the next name below differs, too
 *   CUDABUILD_OBJECTS       the folder in which finished objects are kept for the next try of this build
 *   CUDABUILD_GUARD=off     every call is exec'd at once
 *   CUDABUILD_SHIM_BYPASS   set for everything below a compiler: what that starts is a part of the unit
 *
 * Linux only, no dependency beside libc. Memory that is allocated is never given back: the program lives for one call. */
#ifndef CUDABUILD_SHIM_H
#define CUDABUILD_SHIM_H

#include "../supervisor/supervisor.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

extern char **environ;

/* What a compiler is, by its name. */
enum kind { NVCC, CC, CXX, LINKER, OTHER };

/* The program that a call is meant for. */
struct program {
    enum kind kind;
    const char *name;   /* under which it was called, without folders */
    const char *real;   /* what is exec'd */
    const char *as;     /* its argv[0]: nvcc takes its root from that, so it gets the view's name and not its own */
    const char *folder; /* the shim's own, which leaves PATH; NULL: none */
    char **words;       /* argv, NULL-terminated; words[0] is replaced by `as` */
};

/* A file that a unit makes, and what was there before. */
struct output {
    const char *path;
    bool existed;
    struct stat before;
};

enum { MOST_OUTPUTS = 32, MOST_FOLDERS = 256, KEY_LENGTH = 64 };

/* key.c: SHA-256 (FIPS 180-4). */
struct key {
    uint32_t state[8];
    uint64_t length;
    unsigned char block[64];
};

/* What an object's bytes may depend on beside the files that are read; gathered as the command line is read. */
struct keeping {
    struct key key;
    char name[KEY_LENGTH + 1]; /* of the kept object; empty: this unit's is not kept */
    const char *folder;        /* where objects are kept; NULL: nowhere */
    const char *source;
    const char *temporary;     /* the folder of a name made up for this run, which the key leaves out; NULL: none */
    bool odd;           /* it reads or writes what nothing tells of */
    bool places_matter; /* names of folders are in the object (-g) */
    bool depends;       /* the caller wants a list of what was read, the second of the unit's outputs ... */
    bool leaves_out;    /* ... without the headers of the system */
    const char *folders[MOST_FOLDERS]; /* in which headers are looked for */
    size_t folder_count;
};

/* One compilation or link. */
struct unit {
    const char *kind; /* nvcc, cc, cxx, link */
    const char *name; /* of the source, or of what is linked */
    char key[KEY_LENGTH + 1];
    unsigned threads;     /* nvcc --threads; 1 without it */
    size_t threads_place; /* where among the words that stands; 0: nowhere, or in a response file */
    struct output outputs[MOST_OUTPUTS];
    size_t output_count;
    struct keeping keeping;
};

/* text.c: all of them end the program when there is no memory. */
void *room_for(void *old, size_t size);
char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *base_name(const char *path);
char *absolute(const char *path);      /* without ".", ".." and "//"; links are not followed */
bool begins(const char *text, const char *with);
bool ends(const char *text, const char *with);
_Noreturn void give_up(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* program.c */
struct program find_program(int argc, char **argv); /* exits when there is none */
const char *on_path(const char *name); /* where a program lies that is called by its name */
_Noreturn void become(const struct program *program);
char **environment_below(const struct program *program, const char *scratch); /* for the compiler and all it starts */

/* words.c: every word of a command line, those of its response files included, and of nvcc's variables. */
typedef void word_sink(void *to, const char *word);
void split_words(const char *text, size_t size, word_sink *sink, void *to);
bool read_words(const char *path, word_sink *sink, void *to); /* false: no such file */

/* unit.c: true when the call is a unit, and what is known of it then. */
bool read_unit(const struct program *program, struct unit *unit);
/* The command line with another number of threads. */
char **words_with_threads(const struct program *program, const struct unit *unit, unsigned threads);

/* options.c */
enum meaning {
    FLAG,      /* counts for the unit's key, as everything that is not named */
    IMMEDIATE, /* the call compiles nothing: --version, -E */
    VALUE,     /* the next word belongs to it */
    OUTPUT,    /* the next word names the output */
    DEPFILE,   /* the next word names the list of what was read */
    TARGET,    /* the next word is a name in that list */
    LANGUAGE,  /* the next word is the language of what follows */
    THREADS,   /* the next word says how many */
    MORE,      /* the next word names a file with more words */
    COMPILE,   /* stops at the object */
    ASSEMBLE,  /* stops at the assembler's text */
    PTX, CUBIN, FATBIN, /* nvcc: stops there */
    FOLDER,    /* the next word is a folder in which headers are looked for */
    DEPENDS,   /* writes a list of what was read beside the output */
    DEPENDS_USER, /* that, without the system's headers */
};
/* What an option means; `value` is set to where its value begins when that is in the same word, else NULL. */
enum meaning meaning_of(enum kind kind, const char *word, const char **value);

/* key.c */
void key_begin(struct key *key);
void key_bytes(struct key *key, const void *data, size_t size);
void key_add(struct key *key, const char *label, const char *word); /* the names of places are left out */
void key_end(struct key *key, char *hexadecimal);

/* keep.c: whether a unit's object can be kept, and under which name. */
void keep_begin(struct keeping *keeping);
void keep_word(struct keeping *keeping, const char *word);  /* any word of the command line */
void keep_place(struct keeping *keeping, const char *path); /* one whose folders do not matter for the object */
void keep_folder(struct keeping *keeping, const char *path); /* that, and headers are looked for in it */
void keep_end(struct keeping *keeping, const struct program *program);

/* read_files.c: which files a compiler has read. */
struct paths {
    char **items;
    size_t count, room;
};
void paths_add(struct paths *paths, const char *path, size_t length);
void paths_sort(struct paths *paths); /* each once */
bool paths_of_rule(struct paths *paths, const char *depfile); /* what a list for make says; false: it cannot be read */
void paths_of_listing(struct paths *paths, const char *text, size_t size); /* what -H has printed */

/* kept.c: objects of finished units, in CUDABUILD_OBJECTS. */
void kept_give(const struct unit *unit); /* ends the program when there is one for this unit */
char **kept_words(const struct unit *unit, char **words, const char *scratch); /* words that tell what is read, too */
bool kept_lists(const struct unit *unit); /* the compiler is told to list what it reads on its standard error */
struct diagnostics;
/* kept_store.c */
void kept_store(const struct unit *unit, struct diagnostics *diagnostics, const char *scratch, struct timespec began);

/* kept_file.c */
struct content {
    char *text; /* to be freed; a zero byte follows it */
    size_t size;
};
bool read_content(const char *path, struct content *content);
void content_key(const struct content *content, char *hexadecimal);
void headers_key(const char *folder, bool plain, char *hexadecimal); /* over the names of the headers in a folder and below */
bool put_file(const char *path, const struct content *parts, size_t count); /* whole, or not at all */
#define KEPT_TITLE "cudabuild-kept 2\n"
#define KEPT_LIST "/cudabuild-read" /* in the unit's own temporary folder */
char *kept_place(const struct unit *unit);
int64_t nanoseconds(struct timespec time);
char *file_state(const struct stat *found);

/* outputs.c */
void outputs_look(struct unit *unit);              /* before the compiler starts */
void outputs_remove_partial(const struct unit *unit); /* after it was killed: what it has made or changed */

/* broker.c: the connection. All calls return at once. */
struct broker {
    int descriptor;   /* -1: none */
    double lost;      /* since when there is none */
    double next_try, next_start;
    int starting;     /* the lock that is held while the broker starts, or -1 */
    size_t have;
    char text[8192];  /* received, no whole line yet */
};
struct answer {
    enum { NOTHING, QUEUED, GO, KILL, DONE, AGAIN, FAIL } verb;
    unsigned threads; /* that a unit of several may use now; 0: as it asked for */
    const char *text; /* why it cannot be built here */
};
/* What a unit used, as the kernel counted it: bytes of its largest process, seconds of processors. */
struct usage {
    long long largest;
    double processor;
};
void broker_begin(struct broker *broker);
void broker_reach(struct broker *broker, const struct unit *unit, pid_t running); /* connects, when it is time to */
void broker_started(struct broker *broker, pid_t pid);
void broker_ended(struct broker *broker, int code, int number, struct usage usage);
void broker_killed(struct broker *broker);
void broker_hear(struct broker *broker);          /* reads what has come */
struct answer broker_next(struct broker *broker); /* the next message, or NOTHING */
double now(void); /* seconds of the monotonic clock */

/* diagnostics.c: the compiler's standard error on its way through. It is held back until the unit has ended, so that
 * a run that was killed and is made again leaves no trace, and searched for what compilers say when a program of
 * theirs was killed. A terminal is given to the compiler itself. */
enum { MOST_KEPT = 4 << 20 }; /* bytes of what was taken out or passed on; more are not kept */
struct diagnostics {
    int reading, writing; /* -1: none */
    size_t have;
    bool released;     /* too much to hold back: passed on from here on */
    bool says_killed;
    char text[1 << 16];
    bool whole;        /* none of it has gone past this program */
    bool lists;        /* lines that name what is read are taken out of it */
    bool after_list, precompiled;
    size_t seen;       /* so many bytes of text were looked at for that */
    char *listed, *said; /* what was taken out, and what was passed on */
    size_t listed_size, listed_room, said_size, said_room;
};
void diagnostics_begin(struct diagnostics *diagnostics, bool lists);
void diagnostics_in_child(const struct diagnostics *diagnostics);
void diagnostics_in_parent(struct diagnostics *diagnostics);
void diagnostics_read(struct diagnostics *diagnostics);    /* what there is, without waiting */
void diagnostics_release(struct diagnostics *diagnostics); /* print what was held back */
void diagnostics_say(const char *text, size_t size);
void diagnostics_drop(struct diagnostics *diagnostics);    /* forget it */

/* compiler.c: one run of a unit's compiler, and the end of all that it started. */
struct compiler {
    const struct program *program;
    struct unit *unit;
    struct command command;
    struct diagnostics diagnostics;
    struct scratch scratch;  /* its temporary files */
    struct timespec began;   /* by the clock that files are stamped with */
    double processor_before; /* seconds that earlier runs of the unit have taken */
    struct caller {          /* what this program has changed of its own, and the compiler gets as it was */
        sigset_t mask;
        struct sigaction pipe, child;
    } caller;
};
void compiler_start(struct compiler *compiler, unsigned threads); /* 0 threads: as the command line says */
void compiler_finished(struct compiler *compiler); /* keeps what it has made */
void compiler_clean_up(struct compiler *compiler); /* ends what is left of it, removes what it has not finished */
bool compiler_was_killed(const struct compiler *compiler); /* it, or a program of its, by signal 9 */
struct usage compiler_usage(const struct compiler *compiler);

/* run.c: runs a unit to its end, and ends as the compiler did. */
_Noreturn void run_unit(const struct program *program, struct unit *unit);

#endif
