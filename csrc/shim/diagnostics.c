#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void diagnostics_begin(struct diagnostics *diagnostics, bool lists)
{
    int ends[2];
    diagnostics->reading = diagnostics->writing = -1;
    diagnostics->have = diagnostics->seen = diagnostics->listed_size = diagnostics->said_size = 0;
    diagnostics->released = diagnostics->says_killed = diagnostics->after_list = diagnostics->precompiled = false;
    diagnostics->whole = false;
    diagnostics->lists = lists;
    if (fcntl(STDERR_FILENO, F_GETFD) < 0 || isatty(STDERR_FILENO) || pipe2(ends, O_CLOEXEC) != 0)
        return;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    diagnostics->reading = ends[0];
    diagnostics->writing = ends[1];
    diagnostics->whole = true;
}

void diagnostics_in_child(const struct diagnostics *diagnostics)
{
    if (diagnostics->writing >= 0)
        dup2(diagnostics->writing, STDERR_FILENO);
}

void diagnostics_in_parent(struct diagnostics *diagnostics)
{
    if (diagnostics->writing >= 0)
        close(diagnostics->writing);
    diagnostics->writing = -1;
}

/* What gcc, collect2, clang and nvcc say when the kernel or somebody has killed a program of theirs. */
static bool says_killed(const char *text, size_t size)
{
    static const char *const SIGNS[] = {
        "Killed signal terminated program", "terminated with signal 9", "unable to execute command: Killed",
        "died due to signal 9",
    };
    for (size_t i = 0; i < sizeof SIGNS / sizeof *SIGNS; i++)
        if (memmem(text, size, SIGNS[i], strlen(SIGNS[i])) != NULL)
            return true;
    return false;
}

/* Up to MOST_KEPT bytes, and then one more as the sign that there were too many. */
static void append(char **to, size_t *have, size_t *room, const char *text, size_t size)
{
    if (*have > MOST_KEPT || size == 0)
        return;
    if (*have + size > MOST_KEPT) {
        *have = MOST_KEPT + 1;
        return;
    }
    if (*have + size > *room)
        *to = room_for(*to, *room = 2 * (*have + size));
    memcpy(*to + *have, text, size);
    *have += size;
}

/* Whether a line (with its end) is one of those that -H adds: ". /usr/include/stdio.h", with a dot for each level. At
 * the end come a sentence and the names of some of these files. */
static bool is_listed(struct diagnostics *diagnostics, const char *line, size_t size)
{
    static const char SENTENCE[] = "Multiple include guards may be useful for:\n";
    size_t dots = 0;
    while (line[dots] == '.')
        dots++;
    if (size > dots + 2 && (line[dots] == '!' || line[dots] == 'x') && line[dots + 1] == ' ' && size > 5 &&
        memcmp(line + size - 5, ".gch\n", 5) == 0)
        return diagnostics->precompiled = true;
    if (dots > 0 && line[dots] == ' ')
        return true;
    if (size == sizeof SENTENCE - 1 && memcmp(line, SENTENCE, size) == 0)
        return diagnostics->after_list = true;
    if (diagnostics->after_list && diagnostics->listed_size > size && diagnostics->listed_size <= MOST_KEPT)
        for (const char *from = diagnostics->listed, *end = from + diagnostics->listed_size, *found;
             (found = memmem(from, (size_t)(end - from), line, size)) != NULL; from = found + 1)
            if (found > diagnostics->listed && found[-1] == ' ')
                return true;
    return false;
}

/* Takes the lines that -H adds out of what the compiler says, as far as lines are whole. */
static void take_out_list(struct diagnostics *diagnostics)
{
    char *end = diagnostics->text + diagnostics->have, *line = diagnostics->text + diagnostics->seen, *to = line;
    for (char *next; (next = memchr(line, '\n', (size_t)(end - line))) != NULL; line = next) {
        size_t size = (size_t)(++next - line);
        if (is_listed(diagnostics, line, size)) {
            append(&diagnostics->listed, &diagnostics->listed_size, &diagnostics->listed_room, line, size);
        } else {
            memmove(to, line, size);
            to += size;
        }
    }
    diagnostics->seen = (size_t)(to - diagnostics->text);
    memmove(to, line, (size_t)(end - line));
    diagnostics->have = diagnostics->seen + (size_t)(end - line);
}

/* False when nobody listens. */
static bool say(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, text, size);
        if (written < 0 && errno == EAGAIN) {
            usleep(1000); /* somebody made the stream non-blocking */
        } else if (written < 0 && errno != EINTR) {
            return false;
        } else if (written > 0) {
            text += written;
            size -= (size_t)written;
        }
    }
    return true;
}

void diagnostics_say(const char *text, size_t size)
{
    say(text, size);
}

void diagnostics_release(struct diagnostics *diagnostics)
{
    append(&diagnostics->said, &diagnostics->said_size, &diagnostics->said_room, diagnostics->text, diagnostics->have);
    if (!say(diagnostics->text, diagnostics->have)) {
        /* Nobody listens any more: the compiler is to learn that as it would have. */
        close(diagnostics->reading);
        diagnostics->reading = -1;
    }
    diagnostics->have = diagnostics->seen = 0;
}

void diagnostics_read(struct diagnostics *diagnostics)
{
    while (diagnostics->reading >= 0) {
        ssize_t size = read(diagnostics->reading, diagnostics->text + diagnostics->have,
                            sizeof diagnostics->text - diagnostics->have);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return;
        if (size == 0) {
            close(diagnostics->reading);
            diagnostics->reading = -1;
            return;
        }
        diagnostics->have += (size_t)size;
        diagnostics->says_killed |= says_killed(diagnostics->text, diagnostics->have);
        if (diagnostics->lists)
            take_out_list(diagnostics);
        diagnostics->released |= diagnostics->have == sizeof diagnostics->text;
        /* A line of which the end has not come may have to be taken out: it waits. */
        if (diagnostics->released && (!diagnostics->lists || diagnostics->seen == diagnostics->have ||
                                      diagnostics->have == sizeof diagnostics->text))
            diagnostics_release(diagnostics);
    }
}

void diagnostics_drop(struct diagnostics *diagnostics)
{
    diagnostics->have = diagnostics->seen = 0;
    if (diagnostics->reading >= 0)
        close(diagnostics->reading);
    diagnostics->reading = -1;
}
