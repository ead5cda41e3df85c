#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void diagnostics_begin(struct diagnostics *diagnostics)
{
    int ends[2];
    diagnostics->reading = diagnostics->writing = -1;
    diagnostics->have = 0;
    diagnostics->released = diagnostics->says_killed = false;
    if (fcntl(STDERR_FILENO, F_GETFD) < 0 || isatty(STDERR_FILENO) || pipe2(ends, O_CLOEXEC) != 0)
        return;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    diagnostics->reading = ends[0];
    diagnostics->writing = ends[1];
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

void diagnostics_release(struct diagnostics *diagnostics)
{
    size_t done = 0;
    while (done < diagnostics->have) {
        ssize_t written = write(STDERR_FILENO, diagnostics->text + done, diagnostics->have - done);
        if (written < 0 && errno == EAGAIN) {
            usleep(1000); /* somebody made the stream non-blocking */
        } else if (written < 0 && errno != EINTR) {
            /* Nobody listens any more: the compiler is to learn that as it would have. */
            close(diagnostics->reading);
            diagnostics->reading = -1;
            break;
        } else if (written > 0) {
            done += (size_t)written;
        }
    }
    diagnostics->have = 0;
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
        diagnostics->released |= diagnostics->have == sizeof diagnostics->text;
        if (diagnostics->released)
            diagnostics_release(diagnostics);
    }
}

void diagnostics_drop(struct diagnostics *diagnostics)
{
    diagnostics->have = 0;
    if (diagnostics->reading >= 0)
        close(diagnostics->reading);
    diagnostics->reading = -1;
}
