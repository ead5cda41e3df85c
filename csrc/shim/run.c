/* A unit, from its registration to its end.
 *
 *   waiting -> running -> (ended by itself) -> exit as the compiler did
 *                     \-> killed, by the broker or by somebody -> waiting again, its partial outputs removed
 *
 * This program is a child subreaper: what the compiler started and left behind becomes its child, so that the whole
 * tree can be ended. The compiler stays in this process group, as it is without a shim: what a terminal or ninja sends
 * to the group reaches it. */
#include "shim.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static const double PATIENCE = 10.0; /* seconds without a broker until a waiting unit gives up */
static const double GRACE = 1.0;     /* seconds that a compiler has to end after a signal that ends it */

static struct {
    struct broker broker;
    struct compiler compiler;
    enum { WAITING, RUNNING, JUDGED } state; /* JUDGED: it has failed; the broker says whether it starts again */
    int asked;       /* the signal that ends this program once the compiler has ended */
    double deadline; /* when the compiler's time to end is over */
    int signals;
} run;

static void catch_signals(void)
{
    sigset_t caught;
    sigemptyset(&caught);
    const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction before;
        sigaction(numbers[i], NULL, &before);
        if (before.sa_handler != SIG_IGN || numbers[i] == SIGCHLD) /* what is ignored from outside (nohup) stays so */
            sigaddset(&caught, numbers[i]);
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN}, usual = {.sa_handler = SIG_DFL};
    sigaction(SIGPIPE, &ignore, &run.compiler.caller.pipe);
    sigaction(SIGCHLD, &usual, &run.compiler.caller.child); /* ignored, it would lose exit statuses */
    sigprocmask(SIG_BLOCK, &caught, &run.compiler.caller.mask);
    run.signals = signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
}

static _Noreturn void die_by(int number)
{
    const struct rlimit none = {0, 0}; /* the compiler has left its core, if any */
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t only;
    setrlimit(RLIMIT_CORE, &none);
    sigaction(number, &usual, NULL);
    sigemptyset(&only);
    sigaddset(&only, number);
    kill(getpid(), number);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    _exit(128 + number);
}

static _Noreturn void end_as_the_compiler(void)
{
    diagnostics_release(&run.compiler.diagnostics);
    if (run.compiler.scratch.path != NULL)
        rmdir(run.compiler.scratch.path); /* what a compiler leaves behind on purpose stays, and its folder with it */
    int status = run.compiler.command.status;
    if (WIFSIGNALED(status))
        die_by(WTERMSIG(status));
    _exit(WEXITSTATUS(status));
}

static void compiler_has_ended(void)
{
    int status = run.compiler.command.status;
    diagnostics_read(&run.compiler.diagnostics);
    bool killed = run.asked == 0 && compiler_was_killed(&run.compiler);
    if (killed || (run.asked != 0 && status != 0))
        compiler_clean_up(&run.compiler); /* it was cut short: what it left running would go on to write */
    broker_ended(&run.broker, WIFEXITED(status) ? WEXITSTATUS(status) : 0,
                 killed ? SIGKILL : WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                 compiler_usage(&run.compiler));
    if (status == 0 && run.asked == 0)
        compiler_finished(&run.compiler); /* the broker has been told: the next may start meanwhile */
    /* Only the broker knows whether the kernel has killed something; of a success it has nothing to say. */
    if (status == 0 || run.asked != 0 || (run.broker.descriptor < 0 && !killed))
        end_as_the_compiler();
    run.state = JUDGED;
}

static _Noreturn void refused(const char *text)
{
    if (run.state == RUNNING) {
        compiler_clean_up(&run.compiler);
        diagnostics_drop(&run.compiler.diagnostics);
    }
    diagnostics_release(&run.compiler.diagnostics);
    give_up(128 + SIGKILL, "%s", text == NULL ? "cudabuild: this compilation cannot be run here" : text);
}

static void start(unsigned threads)
{
    compiler_start(&run.compiler, threads);
    run.state = RUNNING;
    broker_started(&run.broker, run.compiler.command.pid);
}

static void wait_again(void)
{
    compiler_clean_up(&run.compiler);
    diagnostics_drop(&run.compiler.diagnostics);
    run.state = WAITING;
}

static void kill_compiler(void)
{
    reap(&run.compiler.command);
    if (run.compiler.command.ended)
        return; /* it was faster, and its end is told instead */
    wait_again();
    broker_killed(&run.broker);
}

static void obey(struct answer answer)
{
    if (answer.verb == FAIL)
        refused(answer.text);
    if (answer.verb == KILL && run.state == RUNNING)
        kill_compiler();
    if (answer.verb == DONE && run.state == JUDGED)
        end_as_the_compiler();
    if (answer.verb == AGAIN && run.state == JUDGED)
        wait_again();
    if (answer.verb == GO && run.state == RUNNING)
        broker_started(&run.broker, run.compiler.command.pid);
    if (answer.verb == GO && run.state == WAITING)
        start(answer.threads);
}

static void look_at_signals(void)
{
    struct signalfd_siginfo info;
    while (read(run.signals, &info, sizeof info) == (ssize_t)sizeof info) {
        int number = (int)info.ssi_signo;
        if (number == SIGCHLD)
            continue;
        if (run.state == WAITING)
            die_by(number);
        if (run.state == JUDGED)
            end_as_the_compiler();
        kill(run.compiler.command.pid, number); /* an unreaped child: the number is its own */
        if (run.asked == 0)
            run.deadline = now() + GRACE;
        run.asked = number;
    }
}

static void look_at_compiler(void)
{
    if (run.state != RUNNING)
        return;
    reap(&run.compiler.command);
    if (!run.compiler.command.ended && run.asked != 0 && now() >= run.deadline)
        compiler_clean_up(&run.compiler);
    if (run.compiler.command.ended)
        compiler_has_ended();
}

/* A broker that has died comes back in milliseconds; one that does not within seconds never will. */
static void look_at_broker(void)
{
    for (struct answer answer; (answer = broker_next(&run.broker)).verb != NOTHING;)
        obey(answer);
    if (run.broker.descriptor >= 0)
        return;
    bool given_up = now() - run.broker.lost >= PATIENCE;
    if (run.state == JUDGED && (given_up || !compiler_was_killed(&run.compiler)))
        end_as_the_compiler();
    if (given_up && run.state == WAITING)
        give_up(1,
                "cudabuild: %s was not started: the broker that says when there is memory for it does not answer "
                "(%s)\ncudabuild: run the build again, or without the guard: CUDABUILD_GUARD=off",
                run.compiler.unit->name, getenv("CUDABUILD_SOCKET"));
    broker_reach(&run.broker, run.compiler.unit, run.state == RUNNING ? run.compiler.command.pid : 0);
    if (run.state == JUDGED && run.broker.descriptor >= 0)
        wait_again(); /* a new broker knows nothing of the unit that was killed: it is registered as one that waits */
}

/* Milliseconds until something is to be done without being told; -1: never. */
static int until_next(void)
{
    double next = -1.0;
    if (run.broker.descriptor < 0)
        next = run.broker.next_try;
    if (run.state == RUNNING && run.asked != 0 && (next < 0 || run.deadline < next))
        next = run.deadline;
    double left = next - now();
    return next < 0 ? -1 : left < 0 ? 0 : (int)(left * 1e3) + 1;
}

_Noreturn void run_unit(const struct program *program, struct unit *unit)
{
    run.compiler.program = program;
    run.compiler.unit = unit;
    program->words[0] = (char *)program->as;
    run.compiler.diagnostics.reading = run.compiler.diagnostics.writing = -1;
    catch_signals();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    broker_begin(&run.broker);
    broker_reach(&run.broker, unit, 0);
    for (;;) {
        struct pollfd look[] = {{.fd = run.signals, .events = POLLIN},
                                {.fd = run.broker.descriptor, .events = POLLIN},
                                {.fd = run.compiler.diagnostics.reading, .events = POLLIN}};
        poll(look, 3, until_next());
        diagnostics_read(&run.compiler.diagnostics);
        look_at_signals();
        look_at_compiler();
        if (run.broker.descriptor >= 0)
            broker_hear(&run.broker);
        look_at_broker();
    }
}
