/* Whether a call is a unit, and which: one pass over its words. */
#include "shim.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int DEEPEST = 8; /* response files in response files */

struct reading {
    const struct program *program;
    struct unit *unit;
    struct key key;
    enum meaning waiting; /* what the next word is */
    enum meaning stage;   /* COMPILE, ASSEMBLE, PTX ...; FLAG: it links */
    bool immediate;
    bool sources_follow;  /* -x */
    const char *output, *depfile;
    const char *inputs[MOST_OUTPUTS]; /* sources */
    size_t input_count;
    const char *other; /* an object or library */
    size_t place; /* among the words of the command line; 0: in none of them */
    int depth;
};

static void take(void *to, const char *word);

static bool is_regular(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISREG(found.st_mode);
}

static bool is_source(const char *path)
{
    static const char *const ENDINGS[] = {".c", ".i", ".cc", ".cp", ".cxx", ".cpp", ".c++", ".C", ".CPP", ".ii",
                                          ".cu", ".cuh", ".m", ".mm", ".h", ".hh", ".hpp", ".hxx", ".s", ".S", ".sx",
                                          ".ptx", ".cubin", ".gpu", ".cppm", ".ixx", ".f", ".f90"};
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (ends(path, ENDINGS[i]))
            return true;
    return false;
}

static void take_input(struct reading *reading, const char *word)
{
    keep_word(&reading->unit->keeping, word);
    if (!is_regular(word)) {
        key_add(&reading->key, "flag", word);
        return;
    }
    char *path = absolute(word);
    key_add(&reading->key, "input", path);
    free(path);
    if (!reading->sources_follow && !is_source(word)) {
        if (reading->other == NULL)
            reading->other = text_of("%s", word);
    } else if (reading->input_count < MOST_OUTPUTS) {
        reading->inputs[reading->input_count++] = text_of("%s", word);
    }
}

static void keep_value(struct keeping *keeping, enum meaning meaning, const char *word)
{
    if (meaning == OUTPUT || meaning == DEPFILE || meaning == TARGET)
        keep_place(keeping, word);
    else if (meaning == FOLDER)
        keep_folder(keeping, word);
    else if (meaning != MORE)
        keep_word(keeping, word);
    if (meaning == LANGUAGE)
        keeping->odd |= strstr(word, "header") != NULL || begins(word, "assembler");
}

static void take_value(struct reading *reading, enum meaning meaning, const char *word)
{
    keep_value(&reading->unit->keeping, meaning, word);
    switch (meaning) {
    case OUTPUT:
        reading->output = text_of("%s", word);
        break;
    case DEPFILE:
        reading->depfile = text_of("%s", word);
        break;
    case TARGET:
        break;
    case THREADS:
        reading->unit->threads_place = reading->depth == 0 ? reading->place : 0;
        reading->unit->threads = (unsigned)strtoul(word, NULL, 10);
        if (reading->unit->threads == 0) /* as many as there are processors */
            reading->unit->threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
        break;
    case MORE:
        if (reading->depth++ < DEEPEST)
            read_words(word, take, reading);
        reading->depth--;
        break;
    case LANGUAGE:
        reading->sources_follow = strcmp(word, "none") != 0;
        key_add(&reading->key, "language", word);
        break;
    default:
        key_add(&reading->key, "value", word);
    }
}

static void take_option(struct reading *reading, const char *word)
{
    const char *value = NULL;
    enum meaning meaning = meaning_of(reading->program->kind, word, &value);
    struct keeping *keeping = &reading->unit->keeping;
    if (meaning == FLAG && begins(word, "-I"))
        keep_folder(keeping, word + 2);
    else if (value != NULL)
        keep_value(keeping, meaning, word);
    else
        keep_word(keeping, word);
    switch (meaning) {
    case FLAG:
        key_add(&reading->key, "flag", word);
        break;
    case IMMEDIATE:
        reading->immediate = true;
        break;
    case DEPENDS: case DEPENDS_USER:
        keeping->depends = true;
        keeping->leaves_out |= meaning == DEPENDS_USER;
        break;
    case VALUE: case FOLDER:
        key_add(&reading->key, "flag", word);
        reading->waiting = value == NULL ? meaning : FLAG;
        break;
    case OUTPUT: case DEPFILE: case TARGET: case LANGUAGE: case THREADS: case MORE:
        if (value == NULL)
            reading->waiting = meaning;
        else
            take_value(reading, meaning, value);
        break;
    default:
        reading->stage = meaning;
        key_add(&reading->key, "flag", word);
    }
}

static void take(void *to, const char *word)
{
    struct reading *reading = to;
    if (reading->waiting != FLAG) {
        enum meaning meaning = reading->waiting;
        reading->waiting = FLAG;
        take_value(reading, meaning, word);
    } else if (word[0] == '@' && word[1] != '\0' && reading->depth < DEEPEST) {
        reading->depth++;
        if (!read_words(word + 1, take, reading))
            take_input(reading, word);
        reading->depth--;
    } else if (word[0] == '-' && word[1] == '\0') {
        reading->immediate = true; /* what comes through a pipe cannot be read a second time */
    } else if (word[0] == '-') {
        take_option(reading, word);
    } else {
        take_input(reading, word);
    }
}

static void take_variable(struct reading *reading, const char *name)
{
    const char *value = getenv(name);
    if (value != NULL)
        split_words(value, strlen(value), take, reading);
}

static void expect_output(struct unit *unit, const char *path)
{
    if (unit->output_count < MOST_OUTPUTS)
        unit->outputs[unit->output_count++] = (struct output){.path = path};
}

/* A path with another ending; `whole`: with its folders. */
static const char *with_ending(const char *path, const char *ending, bool whole)
{
    const char *name = base_name(path), *from = whole ? path : name;
    const char *dot = strrchr(name, '.');
    size_t length = dot == NULL || dot == name ? strlen(from) : (size_t)(dot - from);
    return text_of("%.*s%s", (int)length, from, ending);
}

static void expect_outputs(struct reading *reading)
{
    const char *ending = NULL;
    switch (reading->stage) {
    case COMPILE: ending = ".o"; break;
    case ASSEMBLE: ending = ".s"; break;
    case PTX: ending = ".ptx"; break;
    case CUBIN: ending = ".cubin"; break;
    case FATBIN: ending = ".fatbin"; break;
    default: break;
    }
    if (reading->output != NULL)
        expect_output(reading->unit, reading->output);
    else if (ending == NULL)
        expect_output(reading->unit, "a.out");
    for (size_t i = 0; reading->output == NULL && ending != NULL && i < reading->input_count; i++)
        expect_output(reading->unit, with_ending(reading->inputs[i], ending, false));
    if (reading->depfile != NULL)
        expect_output(reading->unit, reading->depfile);
    else if (reading->unit->keeping.depends && reading->unit->output_count > 0)
        expect_output(reading->unit, with_ending(reading->unit->outputs[0].path, ".d", true));
}

static const char *kind_name(const struct reading *reading)
{
    enum kind kind = reading->program->kind;
    if (reading->input_count == 0 || kind == LINKER)
        return "link";
    if (kind == NVCC)
        return "nvcc";
    const char *source = reading->inputs[0];
    return kind == CC && (ends(source, ".c") || ends(source, ".i") || ends(source, ".s") || ends(source, ".S"))
               ? "cc" : "cxx";
}

/* By the name behind all links: c++ may be any compiler. */
static bool is_gcc(const struct program *program)
{
    char path[PATH_MAX];
    if (program->kind == NVCC || realpath(program->real, path) == NULL)
        return false;
    return strstr(base_name(path), "gcc") != NULL || strstr(base_name(path), "g++") != NULL;
}

/* Only a compile from one source to one object is kept: what else a call makes or reads is not all known. */
static void look_at_keeping(struct reading *reading)
{
    static const char *const OTHERS[] = {".s", ".S", ".sx", ".h", ".hh", ".hpp", ".hxx", ".cuh", ".ptx", ".cubin",
                                         ".gpu", ".cppm", ".ixx", ".f", ".f90", ".m", ".mm"};
    struct unit *unit = reading->unit;
    struct keeping *keeping = &unit->keeping;
    keeping->odd |= reading->stage != COMPILE || reading->input_count != 1 || reading->other != NULL ||
                    unit->output_count != (keeping->depends ? 2 : 1) || reading->program->kind == LINKER;
    keeping->odd |= keeping->leaves_out && !is_gcc(reading->program); /* only that is known to say what else it reads */
    keeping->source = reading->input_count > 0 ? reading->inputs[0] : "";
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        keeping->odd |= ends(keeping->source, OTHERS[i]);
    keep_end(keeping, reading->program);
}

bool read_unit(const struct program *program, struct unit *unit)
{
    *unit = (struct unit){.threads = 1};
    if (program->kind == OTHER)
        return false;
    struct reading reading = {.program = program, .unit = unit, .waiting = FLAG, .stage = FLAG};
    key_begin(&reading.key);
    keep_begin(&unit->keeping);
    key_add(&reading.key, "compiler", program->name);
    if (program->kind == NVCC)
        take_variable(&reading, "NVCC_PREPEND_FLAGS");
    for (reading.place = 1; program->words[reading.place] != NULL; reading.place++)
        take(&reading, program->words[reading.place]);
    reading.place = 0;
    if (program->kind == NVCC)
        take_variable(&reading, "NVCC_APPEND_FLAGS");
    if (reading.immediate || (reading.input_count == 0 && reading.other == NULL))
        return false;
    char *threads = text_of("%u", unit->threads);
    key_add(&reading.key, "threads", threads);
    key_end(&reading.key, unit->key);
    unit->kind = kind_name(&reading);
    const char *named = reading.input_count > 0 ? reading.inputs[0]
                        : reading.output != NULL ? reading.output : "a.out";
    unit->name = base_name(named);
    expect_outputs(&reading);
    look_at_keeping(&reading);
    return true;
}

char **words_with_threads(const struct program *program, const struct unit *unit, unsigned threads)
{
    if (threads == 0 || threads == unit->threads || unit->threads_place == 0)
        return program->words;
    size_t count = 0;
    while (program->words[count] != NULL)
        count++;
    char **words = room_for(NULL, (count + 1) * sizeof *words);
    memcpy(words, program->words, (count + 1) * sizeof *words);
    /* The number is a word of its own, or the end of one: --threads=4, -t4. */
    const char *word = words[unit->threads_place];
    int before = (int)(strlen(word) - strspn(word + strcspn(word, "0123456789"), "0123456789"));
    words[unit->threads_place] = text_of("%.*s%u", before, word, threads);
    return words;
}
