#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child says through a pipe before it becomes the command. */
struct word {
    enum { CONTAINED, ISOLATED, NOT_ISOLATED, FAILED } what;
    int error;
};

static void say(int channel, int what)
{
    struct word word = {.what = what, .error = errno};
    while (write(channel, &word, sizeof word) < 0 && errno == EINTR)
        continue;
}

static void default_signals(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The child: becomes the command, or says why not and ends. */
static _Noreturn void become(const struct options *options, const struct cgroup *group, bool isolated, int channel)
{
    pid_t supervisor = getppid();
    setsid(); /* what the command sends to its process group must not reach the supervisor */
    default_signals();
    if (cgroup_join(group) == 0)
        say(channel, CONTAINED);
    if (isolated) {
        if (isolate(options->rules, options->rule_count) != 0) {
            say(channel, NOT_ISOLATED);
            _exit(127);
        }
        say(channel, ISOLATED);
    }
    /* After the change of credentials, which would forget the first; a help only: it covers this process alone. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* a set-user-id program could not be ended by an ordinary user */
    if (getppid() != supervisor)
        _exit(127);
    if (chdir(options->directory) == 0)
        execvp(options->command[0], options->command);
    say(channel, FAILED);
    _exit(127);
}

static struct launch attempt(const struct options *options, const struct cgroup *group, bool isolated)
{
    struct launch result = {.command.pid = -1};
    int channel[2];
    if (pipe2(channel, O_CLOEXEC) != 0) {
        result.error = errno;
        return result;
    }
    result.command.pid = fork();
    if (result.command.pid < 0)
        result.error = errno;
    if (result.command.pid == 0)
        become(options, group, isolated, channel[1]);
    close(channel[1]);
    struct word word;
    for (ssize_t size; (size = read(channel[0], &word, sizeof word)) != 0;) {
        if (size < 0 && errno == EINTR)
            continue;
        if (size != (ssize_t)sizeof word)
            break;
        result.contained |= word.what == CONTAINED;
        result.isolated |= word.what == ISOLATED;
        if (word.what == FAILED)
            result.error = word.error != 0 ? word.error : ENOEXEC;
    }
    close(channel[0]);
    return result;
}

struct launch launch(const struct options *options, const struct cgroup *group)
{
    if (options->rule_count == 0)
        return attempt(options, group, false);
    struct launch result = attempt(options, group, true);
    if (result.isolated || result.error != 0)
        return result;
    waitpid(result.command.pid, NULL, 0);
    return attempt(options, group, false);
}
