/* Whether a unit's object can be kept for the next try of its build, and under which name.
 *
 * The name stands for all that is known before the compiler runs: every word, the working folder, the environment, the
 * compiler. A build that works in a temporary folder has another one in each run: its name is left out of the working
 * folder, of the output's path and of the folders in which headers are looked for, and of nothing else. Whether it
 * has found its way into the object is looked at when there is one (kept.c). */
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What writes or reads other files than the source, its headers and the object. */
static const char *const ODD[] = {
    "-save-temps", "--save-temps", "-keep", "--keep", "-fprofile", "--coverage", "-coverage", "-ftest-coverage",
    "-fbranch-prob", "-fauto-profile", "-fdump", "-dump", "-gsplit-dwarf", "-aux-info", "-fstack-usage",
    "-fcallgraph-info", "-ftime-trace", "-time", "--time", "-fdevice-time-trace", "--fdevice-time-trace", "-fmodule",
    "-fplugin", "-specs", "--specs", "-wrapper", "-Wa,-a", "-Wp,", "-Xpreprocessor", "-Xassembler", "-Xclang",
    "-include-pch", "-fpch", "-fopt-info", "-fsave-optimization", "-frecord-gcc", "-grecord-gcc", "-MG", "-MJ",
    "-fdiagnostics-format=sarif-file", "-fdiagnostics-format=json-file", "-fdiagnostics-add-output", "-imacros",
    "-odir", "--output-directory", "-fsanitize-", "-load", "-cc1", "-H",
};
/* What writes names of folders into the object. */
static const char *const NAMING[] = {"-g", "--debug", "-G", "--device-debug", "-lineinfo", "--generate-line-info",
                                     "-src-in-ptx", "--source-in-ptx", "-flto", "-pg"};
/* What the environment says to build tools, and never to a compiler. */
static const char *const UNSEEN[] = {"CUDABUILD_", "MAX_JOBS=", "CMAKE_BUILD_PARALLEL_LEVEL=", "MAKEFLAGS=", "MFLAGS=",
                                     "MAKELEVEL=", "MAKE_TERMOUT=", "MAKE_TERMERR=", "PWD=", "OLDPWD=", "SHLVL=", "_=",
                                     "NINJA_STATUS="};

static bool begins_with_one(const char *word, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (begins(word, list[i]))
            return true;
    return false;
}

/* Options can stand behind one another in a word: -Xcompiler -fPIC,-g. */
static void judge(struct keeping *keeping, const char *word)
{
    for (const char *part = word; part != NULL; part = strchr(part, ',')) {
        part += *part == ',';
        keeping->odd |= begins_with_one(part, ODD, sizeof ODD / sizeof *ODD);
        keeping->places_matter |= begins_with_one(part, NAMING, sizeof NAMING / sizeof *NAMING) &&
                                  !begins(part, "-gencode") && strcmp(part, "-g0") != 0;
    }
}

/* The folder below which every run makes its own: the place that ends with a star. */
static size_t temporary_root(const char **root)
{
    const char *places = getenv("CUDABUILD_PLACES");
    for (*root = places; places != NULL && **root != '\0';) {
        size_t length = strcspn(*root, ":");
        if (length > 2 && memcmp(*root + length - 2, "/*", 2) == 0)
            return length - 1; /* with its slash */
        *root += length + ((*root)[length] == ':');
    }
    return 0;
}

static void add_without_temporary(struct keeping *keeping, const char *word)
{
    const char *root, *found;
    size_t length = temporary_root(&root);
    char *start = length == 0 ? NULL : text_of("%.*s", (int)length, root);
    while (start != NULL && (found = strstr(word, start)) != NULL) {
        size_t name = strcspn(found + length, "/,:;\"' ");
        char *folder = text_of("%.*s", (int)(length + name), found);
        if (keeping->temporary == NULL)
            keeping->temporary = folder;
        keeping->odd |= strcmp(keeping->temporary, folder) != 0;
        key_bytes(&keeping->key, word, (size_t)(found - word));
        key_bytes(&keeping->key, "{}", 2);
        word = found + length + name;
    }
    key_bytes(&keeping->key, word, strlen(word) + 1);
}

void keep_begin(struct keeping *keeping)
{
    keeping->folder = getenv("CUDABUILD_OBJECTS");
    if (keeping->folder != NULL && keeping->folder[0] != '/')
        keeping->folder = NULL;
    key_begin(&keeping->key);
}

/* What this processor has: with -march=native it decides about the object. */
static void add_processor(struct keeping *keeping)
{
    char text[8192];
    int descriptor = open("/sys/devices/system/cpu/modalias", O_RDONLY | O_CLOEXEC);
    ssize_t size = descriptor < 0 ? -1 : read(descriptor, text, sizeof text);
    close(descriptor);
    if (size > 0)
        key_bytes(&keeping->key, text, (size_t)size);
    else
        keeping->odd = true;
}

void keep_word(struct keeping *keeping, const char *word)
{
    if (keeping->folder == NULL)
        return;
    judge(keeping, word);
    if (ends(word, "=native"))
        add_processor(keeping);
    key_bytes(&keeping->key, "w", 1);
    key_bytes(&keeping->key, word, strlen(word) + 1);
}

void keep_place(struct keeping *keeping, const char *path)
{
    if (keeping->folder == NULL)
        return;
    key_bytes(&keeping->key, "p", 1);
    add_without_temporary(keeping, path);
}

void keep_folder(struct keeping *keeping, const char *path)
{
    keep_place(keeping, path);
    if (keeping->folder_count < MOST_FOLDERS)
        keeping->folders[keeping->folder_count++] = text_of("%s", path);
    else
        keeping->odd = true;
}

static int by_text(const void *one, const void *two)
{
    return strcmp(*(char *const *)one, *(char *const *)two);
}

static void add_environment(struct keeping *keeping)
{
    size_t count = 0, used = 0;
    while (environ[count] != NULL)
        count++;
    char **variables = room_for(NULL, (count + 1) * sizeof *variables);
    for (size_t i = 0; i < count; i++)
        if (!begins_with_one(environ[i], UNSEEN, sizeof UNSEEN / sizeof *UNSEEN))
            variables[used++] = environ[i];
    qsort(variables, used, sizeof *variables, by_text);
    for (size_t i = 0; i < used; i++)
        keep_place(keeping, variables[i]);
    free(variables);
}

/* The file itself, by what changes when another is put in its place. */
static void add_program(struct keeping *keeping, const char *path)
{
    struct stat found = {0};
    stat(path, &found);
    char *text = text_of("%s %lld %lld.%09ld %llu", path, (long long)found.st_size, (long long)found.st_mtim.tv_sec,
                         found.st_mtim.tv_nsec, (unsigned long long)found.st_ino);
    key_bytes(&keeping->key, text, strlen(text) + 1);
}

void keep_end(struct keeping *keeping, const struct program *program)
{
    char folder[PATH_MAX];
    keeping->name[0] = '\0';
    /* gcc writes its list where these say, whatever its options do. */
    keeping->odd |= getenv("DEPENDENCIES_OUTPUT") != NULL || getenv("SUNPRO_DEPENDENCIES") != NULL;
    if (keeping->folder == NULL || keeping->odd || getcwd(folder, sizeof folder) == NULL)
        return;
    add_program(keeping, program->real);
    add_program(keeping, on_path("as"));
    key_bytes(&keeping->key, program->as, strlen(program->as) + 1);
    keep_place(keeping, folder);
    add_environment(keeping);
    if (!keeping->odd) /* more than one temporary folder */
        key_end(&keeping->key, keeping->name);
}
