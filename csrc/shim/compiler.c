#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char KERNEL_SHARE[] = "500"; /* of 1000: a compiler is killed before what a person works with */

/* A folder for the unit's temporary files in the build's own: those of a killed compiler are found there. */
static void make_scratch(struct compiler *compiler)
{
    const char *folder = getenv("TMPDIR");
    compiler->scratch = (struct scratch){.path = NULL};
    if (folder == NULL || folder[0] != '/')
        return;
    char *path = text_of("%s/u%d", folder, (int)getpid());
    if (mkdir(path, 0700) == 0)
        compiler->scratch = scratch_remember(path);
}

static void offer_to_the_kernel(void)
{
    char text[16] = "";
    int descriptor = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (descriptor >= 0 && read(descriptor, text, sizeof text - 1) > 0 && atoi(text) < atoi(KERNEL_SHARE) &&
        write(descriptor, KERNEL_SHARE, sizeof KERNEL_SHARE - 1) < 0)
        text[0] = '\0'; /* where /proc is read-only the kernel chooses as it does without us */
    close(descriptor);
}

static _Noreturn void become_compiler(const struct compiler *compiler, pid_t parent, char **words,
                                      char **variables)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(127);
    offer_to_the_kernel();
    diagnostics_in_child(&compiler->diagnostics);
    sigaction(SIGPIPE, &compiler->caller.pipe, NULL);
    sigaction(SIGCHLD, &compiler->caller.child, NULL);
    sigprocmask(SIG_SETMASK, &compiler->caller.mask, NULL);
    execve(compiler->program->real, words, variables);
    give_up(errno == ENOENT ? 127 : 126, "cudabuild: %s: %s", compiler->program->real, strerror(errno));
}

struct usage compiler_usage(const struct compiler *compiler)
{
    struct rusage used = {0};
    getrusage(RUSAGE_CHILDREN, &used);
    double seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                     (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
    return (struct usage){.largest = used.ru_maxrss * 1024LL, .processor = seconds - compiler->processor_before};
}

void compiler_start(struct compiler *compiler, unsigned threads)
{
    compiler->processor_before += compiler_usage(compiler).processor;
    outputs_look(compiler->unit);
    make_scratch(compiler);
    diagnostics_begin(&compiler->diagnostics, kept_lists(compiler->unit));
    char **words = words_with_threads(compiler->program, compiler->unit, threads);
    words = kept_words(compiler->unit, words, compiler->scratch.path);
    clock_gettime(CLOCK_REALTIME_COARSE, &compiler->began);
    char **variables = environment_below(compiler->program, compiler->scratch.path);
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        become_compiler(compiler, self, words, variables);
    if (pid < 0)
        give_up(1, "cudabuild: %s cannot be started: %s", compiler->program->name, strerror(errno));
    diagnostics_in_parent(&compiler->diagnostics);
    compiler->command = (struct command){.pid = pid};
}

void compiler_finished(struct compiler *compiler)
{
    kept_store(compiler->unit, &compiler->diagnostics, compiler->scratch.path, compiler->began);
}

void compiler_clean_up(struct compiler *compiler)
{
    static const struct cgroup none = {.path = ""};
    if (end_everything(&compiler->command, &none) > 0)
        give_up(1, "cudabuild: processes of %s could not be ended", compiler->unit->name);
    outputs_remove_partial(compiler->unit);
    scratch_remove(&compiler->scratch);
    compiler->scratch.path = NULL;
}

bool compiler_was_killed(const struct compiler *compiler)
{
    /* Signal 9 is what the kernel sends when memory has run out. */
    int status = compiler->command.status;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGKILL;
    int code = WEXITSTATUS(status); /* nvcc ends as the shell did in which it started cicc: with 128 + 9 */
    return code == 128 + SIGKILL || (code != 0 && compiler->diagnostics.says_killed);
}
