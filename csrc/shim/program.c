/* Which program a call is meant for, and becoming it.
 *
 * Beside the shim, in the folder .cudabuild, lies a link of the same name to the real program. The shim knows its own
 * folder from the path that the kernel was given (AT_EXECFN), so that this works with an empty environment, too. */
#include "shim.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static const char *const OWN_NAME = "cudabuild-shim";
static const int MOST_LINKS = 16;

/* What a link says, as a path from here; NULL when it is none. */
static char *follow(const char *path)
{
    char target[PATH_MAX];
    ssize_t size = readlink(path, target, sizeof target - 1);
    if (size <= 0)
        return NULL;
    target[size] = '\0';
    if (target[0] == '/')
        return text_of("%s", target);
    return text_of("%.*s%s", (int)(base_name(path) - path), path, target);
}

/* Whether there is a shim at this path, perhaps behind links; then where it and the real program lie. */
static bool find_shim(const char *path, struct program *program)
{
    for (int links = 0; path != NULL && links < MOST_LINKS; links++, path = follow(path)) {
        const char *name = base_name(path);
        char *folder = text_of("%.*s", (int)(name - path), path);
        char *real = follow(text_of("%s.cudabuild/%s", folder, name));
        if (real == NULL)
            continue;
        program->real = real;
        program->folder = absolute(folder[0] == '\0' ? "." : folder);
        program->as = text_of("%s/%s", program->folder, name);
        program->name = base_name(program->as);
        return true;
    }
    return false;
}

/* Where a program lies that is called by its name, as execvp looks for it. */
const char *on_path(const char *name)
{
    const char *folders = getenv("PATH");
    if (strchr(name, '/') != NULL || folders == NULL)
        return name;
    for (const char *from = folders;; from++) {
        size_t length = strcspn(from, ":");
        char *path = text_of("%.*s%s%s", (int)length, from, length == 0 ? "" : "/", name);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
        from += length;
        if (*from == '\0')
            return name;
    }
}

/* The name without what says which version it is: g++-12, clang-19.1. */
static size_t plain_length(const char *name)
{
    size_t length = strlen(name), digits = length;
    while (digits > 0 && strchr("0123456789.", name[digits - 1]) != NULL)
        digits--;
    return digits > 1 && digits < length && name[digits - 1] == '-' ? digits - 1 : length;
}

static enum kind kind_of(const char *name)
{
    char plain[NAME_MAX + 1];
    snprintf(plain, sizeof plain, "%.*s", (int)plain_length(name), name);
    if (strcmp(plain, "nvcc") == 0)
        return NVCC;
    const char *dash = strrchr(plain, '-');
    const char *last = dash == NULL ? plain : dash + 1; /* x86_64-linux-gnu-g++ */
    static const char *const C[] = {"cc", "gcc", "clang", "c89", "c99", "icx"};
    static const char *const CPLUSPLUS[] = {"c++", "g++", "clang++", "icpx"};
    static const char *const LINKERS[] = {"ld", "lld", "mold"};
    for (size_t i = 0; i < sizeof C / sizeof *C; i++)
        if (strcmp(last, C[i]) == 0)
            return CC;
    for (size_t i = 0; i < sizeof CPLUSPLUS / sizeof *CPLUSPLUS; i++)
        if (strcmp(last, CPLUSPLUS[i]) == 0)
            return CXX;
    for (size_t i = 0; i < sizeof LINKERS / sizeof *LINKERS; i++)
        if (strcmp(last, LINKERS[i]) == 0)
            return LINKER;
    return begins(last, "ld.") ? LINKER : OTHER;
}

struct program find_program(int argc, char **argv)
{
    struct program program = {.words = argv};
    const char *called = (const char *)getauxval(AT_EXECFN);
    if (called == NULL)
        called = argv[0];
    if (!find_shim(called, &program)) {
        if (argc < 2 || strcmp(base_name(called), OWN_NAME) != 0)
            give_up(127, "cudabuild: %s stands for a compiler, but nothing beside it says for which", called);
        program.words = argv + 1;
        if (!find_shim(on_path(argv[1]), &program)) {
            program.as = argv[1];
            program.real = on_path(argv[1]);
            program.name = base_name(argv[1]);
        }
    }
    program.kind = kind_of(program.name);
    if (program.kind != NVCC && program.folder != NULL)
        program.as = program.real; /* gcc looks for its own files beside argv[0] */
    return program;
}

/* PATH without the shim's folder: what a compiler starts is found without a detour, and a compiler cache that looks
 * for the next program of its own name does not find the shim, which would start it again. */
static char *path_below(const char *folders, const char *without)
{
    char *path = text_of("PATH="), *to = path + strlen(path);
    path = room_for(path, strlen(folders) + sizeof "PATH=");
    to = path + sizeof "PATH=" - 1;
    size_t skipped = strlen(without);
    for (bool first = true;;) {
        size_t length = strcspn(folders, ":");
        if (length != skipped || memcmp(folders, without, length) != 0) {
            if (!first)
                *to++ = ':';
            memcpy(to, folders, length);
            to += length;
            first = false;
        }
        folders += length;
        if (*folders++ == '\0')
            break;
    }
    *to = '\0';
    return path;
}

static const char BYPASS[] = "CUDABUILD_SHIM_BYPASS=1";

char **environment_below(const struct program *program, const char *scratch)
{
    bool guarded = getenv("CUDABUILD_SOCKET") != NULL;
    size_t count = 0, next = 0;
    while (environ[count] != NULL)
        count++;
    char **variables = room_for(NULL, (count + 3) * sizeof *variables);
    for (size_t i = 0; i < count; i++) {
        char *variable = environ[i];
        if (guarded && begins(variable, "CUDABUILD_SHIM_BYPASS="))
            continue;
        if (scratch != NULL && begins(variable, "TMPDIR="))
            variable = text_of("TMPDIR=%s", scratch);
        if (program->folder != NULL && begins(variable, "PATH="))
            variable = path_below(variable + sizeof "PATH=" - 1, program->folder);
        variables[next++] = variable;
    }
    if (guarded)
        variables[next++] = (char *)BYPASS;
    variables[next] = NULL;
    return variables;
}

_Noreturn void become(const struct program *program)
{
    program->words[0] = (char *)program->as;
    /* A program that is no compiler (a compiler cache as the launcher's first word) may start shims of its own. */
    execve(program->real, program->words, program->kind == OTHER ? environ : environment_below(program, NULL));
    give_up(errno == ENOENT ? 127 : 126, "cudabuild: %s: %s", program->real, strerror(errno));
}
