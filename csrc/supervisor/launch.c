#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The output belongs to the command alone: its reader sees the end of it when the command's tree has ended. */
void let_go_of_output(void)
{
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int descriptor = 0; descriptor <= 2; descriptor++)
        dup2(nothing, descriptor);
    if (nothing > 2)
        close(nothing);
}

/* What is tried, and given up for less where it is not permitted. */
struct way {
    bool apart, isolated;
};

/* What the child says through a pipe before it becomes the command. */
struct word {
    enum { CONTAINED, APART, ISOLATED, NOT_PERMITTED, FAILED } what;
    int error;
};

struct pipes {
    int words[2];  /* what the child says; closed when the command runs */
    int report[2]; /* the status of a command in its namespace */
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

/* The supervisor holds the reading end until it has heard all: without a reader it is gone. */
static bool is_alone(int channel)
{
    struct pollfd look = {.fd = channel};
    return poll(&look, 1, 0) > 0 && (look.revents & POLLERR) != 0;
}

static _Noreturn void become_command(const struct options *options, int channel)
{
    setsid(); /* what the command sends to its process group must not reach the supervisor */
    default_signals();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* a set-user-id program could not be ended by an ordinary user */
    unsetenv("CUDABUILD_BROKER");           /* one that is started in here would end with this build */
    if (chdir(options->directory) == 0)
        execvp(options->command[0], options->command);
    say(channel, FAILED);
    _exit(127);
}

/* The first process of the namespace: starts the command, and ends with it, and so everything in here does. */
static _Noreturn void become_init(const struct options *options, const struct pipes *pipes)
{
    pid_t command = fork();
    if (command == 0)
        become_command(options, pipes->words[1]);
    if (command < 0)
        say(pipes->words[1], FAILED);
    close(pipes->words[1]);
    let_go_of_output();
    int status = command < 0 ? SIGKILL : serve_as_init(command);
    while (write(pipes->report[1], &status, sizeof status) < 0 && errno == EINTR)
        continue;
    _exit(0);
}

/* The child: becomes the command, or says why not and ends. */
static _Noreturn void become(const struct options *options, const struct cgroup *group, const struct ids *ids,
                             struct way way, const struct pipes *pipes)
{
    int channel = pipes->words[1];
    close(pipes->words[0]);
    close(pipes->report[0]);
    if (way.apart) {
        setsid();
        close(options->control); /* its end is the supervisor's word that it is gone */
    }
    if (cgroup_join(group) == 0) {
        say(channel, CONTAINED);
    } else if (options->tier == CGROUP) {
        say(channel, NOT_PERMITTED);
        _exit(127);
    }
    if (way.apart || way.isolated) {
        if (isolate(options->rules, way.isolated ? options->rule_count : 0, ids, way.apart) != 0) {
            say(channel, NOT_PERMITTED);
            _exit(127);
        }
        if (way.apart)
            say(channel, APART);
        if (way.isolated)
            say(channel, ISOLATED);
    }
    /* After the change of credentials, which would forget the first. It covers this process alone, and with the first
     * process of a pid namespace all in it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (is_alone(channel))
        _exit(127);
    if (way.apart)
        become_init(options, pipes);
    become_command(options, channel);
}

/* Until the command runs, or has failed to. */
static void hear(int channel, struct launch *result)
{
    struct word word;
    for (ssize_t size; (size = read(channel, &word, sizeof word)) != 0;) {
        if (size < 0 && errno == EINTR)
            continue;
        if (size != (ssize_t)sizeof word)
            break;
        result->contained |= word.what == CONTAINED;
        result->apart |= word.what == APART;
        result->isolated |= word.what == ISOLATED;
        result->lacking |= word.what == NOT_PERMITTED;
        if (word.what == FAILED || word.what == NOT_PERMITTED)
            result->error = word.error != 0 ? word.error : ENOEXEC;
    }
}

static struct launch attempt(const struct options *options, const struct cgroup *group, struct way way)
{
    const struct ids ids = {.user = geteuid(), .group = getegid()};
    struct launch result = {.command.pid = -1};
    struct pipes pipes;
    if (pipe2(pipes.words, O_CLOEXEC) != 0 || pipe2(pipes.report, O_CLOEXEC) != 0) {
        result.error = errno;
        return result;
    }
    result.command.pid = way.apart ? fork_apart(&ids) : fork();
    if (result.command.pid < 0) {
        result.error = errno;
        result.lacking = way.apart;
    }
    if (result.command.pid == 0)
        become(options, group, &ids, way, &pipes);
    close(pipes.words[1]);
    close(pipes.report[1]);
    hear(pipes.words[0], &result);
    close(pipes.words[0]);
    if (way.apart)
        result.command.report = pipes.report[0];
    else
        close(pipes.report[0]);
    if (result.lacking && result.command.pid > 0)
        waitpid(result.command.pid, NULL, __WALL);
    return result;
}

/* A person's own program gets no user namespace, in which other people's files look like nobody's, unless asked for. */
static bool may_stand_apart(const struct options *options)
{
    if (options->tier == SUBREAPER || !proc_is_whole())
        return false;
    return options->tier == NAMESPACE || options->rule_count > 0 || geteuid() == 0;
}

struct launch launch(const struct options *options, const struct cgroup *group)
{
    bool isolated = options->rule_count > 0;
    struct launch result = {.lacking = true, .error = EPERM};
    if (may_stand_apart(options))
        result = attempt(options, group, (struct way){.apart = true, .isolated = isolated});
    if (!result.lacking || options->tier == NAMESPACE)
        return result;
    if (isolated)
        result = attempt(options, group, (struct way){.isolated = true});
    if (result.lacking)
        result = attempt(options, group, (struct way){0});
    return result;
}
