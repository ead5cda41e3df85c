#include "shim.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void give_up(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char text[4096];
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    size_t size = length < 0 ? 0 : (size_t)length < sizeof text - 1 ? (size_t)length : sizeof text - 2;
    text[size++] = '\n';
    /* One write: lines of programs that run side by side do not mix. */
    _exit(write(STDERR_FILENO, text, size) < 0 ? code : code);
}

void *room_for(void *old, size_t size)
{
    void *room = realloc(old, size);
    if (room == NULL)
        give_up(1, "cudabuild: no memory for the shim of a compiler");
    return room;
}

char *text_of(const char *format, ...)
{
    va_list arguments;
    char *text = NULL;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        give_up(1, "cudabuild: no memory for the shim of a compiler");
    va_end(arguments);
    return text;
}

const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool ends(const char *text, const char *with)
{
    size_t length = strlen(text), wanted = strlen(with);
    return length >= wanted && strcmp(text + length - wanted, with) == 0;
}

char *absolute(const char *path)
{
    char folder[PATH_MAX];
    if (path[0] == '/' || getcwd(folder, sizeof folder) == NULL)
        folder[0] = '\0';
    char *whole = text_of("%s/%s", folder, path), *to = whole;
    for (const char *from = whole; *from != '\0';) {
        while (*from == '/')
            from++;
        size_t length = strcspn(from, "/");
        if (length == 2 && from[0] == '.' && from[1] == '.') {
            while (to > whole && *--to != '/')
                continue;
        } else if (length > 0 && !(length == 1 && from[0] == '.')) {
            *to++ = '/';
            memmove(to, from, length);
            to += length;
        }
        from += length;
    }
    if (to == whole)
        *to++ = '/';
    *to = '\0';
    return whole;
}
