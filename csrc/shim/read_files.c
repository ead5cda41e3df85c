/* Which files a compiler has read, as it says itself. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>

void paths_add(struct paths *paths, const char *path, size_t length)
{
    if (paths->count == paths->room)
        paths->items = room_for(paths->items, (paths->room = 2 * paths->room + 64) * sizeof *paths->items);
    char *copy = room_for(NULL, length + 1);
    memcpy(copy, path, length);
    copy[length] = '\0';
    paths->items[paths->count++] = copy;
}

static int by_text(const void *one, const void *two)
{
    return strcmp(*(char *const *)one, *(char *const *)two);
}

void paths_sort(struct paths *paths)
{
    if (paths->count == 0)
        return;
    qsort(paths->items, paths->count, sizeof *paths->items, by_text);
    size_t used = 1;
    for (size_t i = 1; i < paths->count; i++)
        if (strcmp(paths->items[i], paths->items[used - 1]) != 0)
            paths->items[used++] = paths->items[i];
    paths->count = used;
}

/* One word of a rule, with its quoting taken off: "\ " and "\#" stand for the second character, "$$" for "$"; a
 * backslash before a line end continues the line. Returns where it ends. */
static const char *next_word(const char *from, const char *end, char *word, size_t *length)
{
    *length = 0;
    for (; from < end; from++) {
        if (*from == '\\' && from + 1 < end && from[1] == '\n')
            break;
        if (strchr(" \t\r\n", *from) != NULL)
            break;
        bool quoted = from + 1 < end && ((*from == '\\' && strchr(" #", from[1]) != NULL) ||
                                         (*from == '$' && from[1] == '$'));
        from += quoted;
        word[(*length)++] = *from;
    }
    return from;
}

bool paths_of_rule(struct paths *paths, const char *depfile)
{
    struct content content;
    if (!read_content(depfile, &content))
        return false;
    const char *from = content.text, *end = from + content.size;
    char *word = room_for(NULL, content.size + 1);
    bool target = true;
    while (from < end) {
        if (*from == '\n')
            target = true; /* another rule */
        if (*from == '\\' && from + 1 < end && from[1] == '\n')
            from += 2;
        else if (strchr(" \t\r\n", *from) != NULL)
            from++;
        else {
            size_t length;
            const char *after = next_word(from, end, word, &length);
            if (after == from)
                after++; /* a backslash by itself: no progress else */
            from = after;
            if (!target && length > 0)
                paths_add(paths, word, length);
            if (target && length > 0 && word[length - 1] == ':')
                target = false;
        }
    }
    free(word);
    free(content.text);
    return true;
}

void paths_of_listing(struct paths *paths, const char *text, size_t size)
{
    for (const char *end = text + size, *next; text < end; text = next) {
        next = memchr(text, '\n', (size_t)(end - text));
        next = next == NULL ? end : next + 1;
        size_t dots = strspn(text, ".");
        if (dots > 0 && text + dots + 2 < next && text[dots] == ' ')
            paths_add(paths, text + dots + 1, (size_t)(next - text) - dots - 2);
    }
}
