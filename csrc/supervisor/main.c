/* What goes over the control socket, one line each.
 *   to the parent:    started PID cgroup|namespace|subreaper namespace|none [CGROUP-FOLDER]
 *                     or   refused ERRNO   or   lacking ERRNO   (the containment that was asked for)
 *                     exited RETURNCODE          (negative: the signal that ended the command)
 *                     ended SURVIVORS            (nothing the command started is left when this is 0)
 *   from the parent:  end                        (its death, which closes the socket, means the same) */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const int HEARTBEAT = 1000; /* milliseconds between two looks at who the parent is */

static void tell(int control, const char *line)
{
    /* A parent that has died does not listen, and a line is far smaller than the socket's buffer. */
    while (send(control, line, strlen(line), MSG_NOSIGNAL) < 0 && errno == EINTR)
        continue;
}

static int catch_signals(void)
{
    sigset_t caught;
    sigemptyset(&caught);
    const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        signal(numbers[i], SIG_DFL); /* an inherited "ignore" of SIGCHLD would lose exit statuses */
        sigaddset(&caught, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &caught, NULL);
    return signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* True once the command has ended or one of the signals that end this program has come. */
static bool is_over(int signals, struct command *command)
{
    struct signalfd_siginfo info;
    bool asked = false;
    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info)
        asked |= info.ssi_signo != SIGCHLD;
    reap(command);
    return asked || command->ended;
}

/* True when the parent asks for the end or has died; `alone` is set in the second case. */
static bool is_asked(int control, pid_t parent, int milliseconds, bool *alone)
{
    struct pollfd look = {.fd = control, .events = POLLIN};
    char text[64];
    if (poll(&look, 1, milliseconds) > 0) {
        ssize_t size = recv(control, text, sizeof text, MSG_DONTWAIT);
        if (size > 0)
            return true;
        *alone |= size == 0 || (errno != EAGAIN && errno != EINTR);
    }
    *alone |= getppid() != parent; /* someone else may have kept the socket open */
    return *alone;
}

static bool wait_for_end(const struct options *options, int signals, struct command *command)
{
    bool alone = false;
    struct pollfd look[] = {{.fd = options->control, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    do
        poll(look, 2, HEARTBEAT);
    while (!is_asked(options->control, options->parent, 0, &alone) && !is_over(signals, command));
    return alone;
}

static void tell_start(const struct options *options, const struct launch *started, const struct cgroup *group)
{
    char line[sizeof group->path + 128];
    if (started->error != 0)
        snprintf(line, sizeof line, "%s %d\n", started->lacking ? "lacking" : "refused", started->error);
    else
        snprintf(line, sizeof line, "started %d %s %s %s\n", (int)started->command.pid,
                 started->contained ? "cgroup" : started->apart ? "namespace" : "subreaper", started->isolated ? "namespace" : "none", group->path);
    tell(options->control, line);
}

static void tell_end(int control, const struct command *command, int survivors)
{
    char line[128];
    int code = WIFEXITED(command->status) ? WEXITSTATUS(command->status) : -WTERMSIG(command->status);
    snprintf(line, sizeof line, "exited %d\nended %d\n", command->ended ? code : -SIGKILL, survivors);
    tell(control, line);
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv);
    fcntl(options.control, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    setsid(); /* fails where the parent has done so already */
    int signals = catch_signals();
    struct scratch scratch = scratch_remember(options.scratch);
    struct cgroup group = {.path = ""};
    bool grouped = (options.tier == ANY || options.tier == CGROUP) && cgroup_create(&group);

    struct launch started = {.command.pid = -1, .lacking = true, .error = errno};
    if (started.error == 0)
        started.error = ENOSYS;
    if (grouped || options.tier != CGROUP)
        started = launch(&options, &group);
    if (!started.contained)
        cgroup_remove(&group);
    let_go_of_output();
    if (chdir("/") != 0)
        return 1;
    tell_start(&options, &started, &group);
    bool alone = started.error == 0 && wait_for_end(&options, signals, &started.command);

    int survivors = end_everything(&started.command, &group);
    cgroup_remove(&group);
    is_asked(options.control, options.parent, 0, &alone); /* it may have died meanwhile */
    if (alone)
        scratch_remove(&scratch);
    tell_end(options.control, &started.command, survivors);
    return survivors == 0 ? 0 : 1;
}
