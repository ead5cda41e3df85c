/* The connection to the broker: one message a line, words separated by tabs, every byte of a value outside of
 * A-Z a-z 0-9 . _ / + - written as %XX. Version 1; docs/explanation/memory-admission.md lists the messages. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static const double BETWEEN_TRIES = 0.1;
static const double BEFORE_START = 1.0;    /* seconds that the build itself has to bring the broker back */
static const double BETWEEN_STARTS = 3.0;

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

void broker_begin(struct broker *broker)
{
    broker->descriptor = broker->starting = -1;
    broker->lost = broker->next_try = now();
    broker->next_start = broker->lost + BEFORE_START;
    broker->have = 0;
}

static void lose(struct broker *broker)
{
    if (broker->descriptor < 0)
        return;
    close(broker->descriptor);
    broker_begin(broker);
}

static char *encoded(const char *text)
{
    static const char PLAIN[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+-";
    char *line = room_for(NULL, 3 * strlen(text) + 1), *to = line;
    for (; *text != '\0'; text++) {
        if (strchr(PLAIN, *text) != NULL)
            *to++ = *text;
        else
            to += sprintf(to, "%%%02X", (unsigned)(unsigned char)*text);
    }
    *to = '\0';
    return line;
}

static void decode(char *text)
{
    char *to = text;
    for (; *text != '\0'; text++) {
        unsigned byte;
        if (*text == '%' && sscanf(text + 1, "%2x", &byte) == 1 && text[2] != '\0') {
            *to++ = (char)byte;
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

static void say(struct broker *broker, const char *line)
{
    if (broker->descriptor < 0)
        return;
    size_t size = strlen(line);
    ssize_t sent;
    do
        sent = send(broker->descriptor, line, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent != (ssize_t)size)
        lose(broker); /* a broker that does not read is none */
}

/* A socket of this user's, or of root's: nobody else says when to compile. */
static int reach(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
        (peer.uid == geteuid() || peer.uid == 0)) {
        fcntl(descriptor, F_SETFL, O_NONBLOCK);
        return descriptor;
    }
    close(descriptor);
    return -1;
}

static _Noreturn void become_starter(const char *command)
{
    int nothing = open("/dev/null", O_RDWR);
    for (int descriptor = 0; descriptor <= 2; descriptor++)
        dup2(nothing, descriptor);
    syscall(SYS_close_range, 3U, ~0U, 0U); /* a pipe of the build that stays open would keep its reader waiting */
    setsid();
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

/* Starts the broker as no descendant of this program, which ends all of its own when it is told to end the unit. */
static void start(struct broker *broker, const char *socket)
{
    const char *command = getenv("CUDABUILD_BROKER");
    broker->next_start = now() + BETWEEN_STARTS;
    if (broker->starting >= 0)
        close(broker->starting);
    /* The lock of everybody who starts a broker; in a build's view its folder may be read-only. */
    char *lock = text_of("%.*sstart.lock", (int)(base_name(socket) - socket), socket);
    broker->starting = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (broker->starting < 0)
        broker->starting = open(lock, O_RDONLY | O_CLOEXEC);
    if (command == NULL || (broker->starting >= 0 && flock(broker->starting, LOCK_EX | LOCK_NB) != 0))
        return;
    int reaper = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &reaper, 0, 0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    pid_t between = fork();
    if (between == 0) {
        if (fork() == 0)
            become_starter(command);
        _exit(0);
    }
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        continue;
    prctl(PR_SET_CHILD_SUBREAPER, reaper, 0, 0, 0);
}

/* The build's token, or that in a file of the build: so its environment, which some builds record, stays the same. */
static char *token(void)
{
    static char text[128];
    const char *value = getenv("CUDABUILD_TOKEN");
    if (value == NULL || value[0] != '/')
        return text_of("%s", value == NULL ? "" : value);
    int descriptor = open(value, O_RDONLY | O_CLOEXEC);
    ssize_t size = descriptor < 0 ? 0 : read(descriptor, text, sizeof text - 1);
    close(descriptor);
    text[size < 0 ? 0 : size] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static char *registration(const struct unit *unit, pid_t running)
{
    char folder[PATH_MAX];
    if (getcwd(folder, sizeof folder) == NULL)
        folder[0] = '\0';
    char *line = text_of("unit\tv=1\ttoken=%s\tkind=%s\tkey=%s\tname=%s\tcwd=%s\tpid=%d\tthreads=%u",
                         encoded(token()), unit->kind, unit->key, encoded(unit->name),
                         encoded(folder), (int)getpid(), unit->threads);
    return running > 0 ? text_of("%s\trunning=%d\n", line, (int)running) : text_of("%s\n", line);
}

void broker_reach(struct broker *broker, const struct unit *unit, pid_t running)
{
    const char *socket = getenv("CUDABUILD_SOCKET");
    if (broker->descriptor >= 0 || now() < broker->next_try)
        return;
    broker->descriptor = reach(socket);
    broker->next_try = now() + BETWEEN_TRIES;
    if (broker->descriptor >= 0) {
        if (broker->starting >= 0)
            close(broker->starting);
        broker->starting = -1;
        say(broker, registration(unit, running));
    } else if (now() >= broker->next_start) {
        start(broker, socket);
    }
}

void broker_started(struct broker *broker, pid_t pid)
{
    say(broker, text_of("started\tpid=%d\n", (int)pid));
}

void broker_ended(struct broker *broker, int code, int number, struct usage usage)
{
    say(broker, text_of("ended\tcode=%d\tsignal=%d\tmaxrss=%lld\tcpu=%.3f\n", code, number, usage.largest,
                        usage.processor));
}

void broker_killed(struct broker *broker)
{
    say(broker, "killed\n");
}

void broker_hear(struct broker *broker)
{
    size_t room = sizeof broker->text - broker->have;
    ssize_t size = recv(broker->descriptor, broker->text + broker->have, room, MSG_DONTWAIT);
    if (size > 0)
        broker->have += (size_t)size;
    else if (size == 0 || (errno != EAGAIN && errno != EINTR))
        lose(broker); /* also when a line is longer than any of the protocol's: then there was no room */
}

static struct answer answer_of(const char *verb)
{
    static const struct {
        const char *verb;
        struct answer answer;
    } VERBS[] = {{"queued", {.verb = QUEUED}}, {"go", {.verb = GO}},       {"kill", {.verb = KILL}},
                 {"done", {.verb = DONE}},     {"again", {.verb = AGAIN}}, {"fail", {.verb = FAIL}}};
    for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++)
        if (strcmp(verb, VERBS[i].verb) == 0)
            return VERBS[i].answer;
    return (struct answer){.verb = QUEUED}; /* a word of a later version: nothing is asked for */
}

struct answer broker_next(struct broker *broker)
{
    char *end = memchr(broker->text, '\n', broker->have);
    if (end == NULL)
        return (struct answer){.verb = NOTHING};
    *end = '\0';
    char *rest = broker->text;
    struct answer answer = answer_of(strsep(&rest, "\t"));
    for (char *word; (word = strsep(&rest, "\t")) != NULL;) {
        if (begins(word, "text=")) {
            decode(word);
            answer.text = text_of("%s", word + sizeof "text=" - 1);
        } else if (begins(word, "threads=")) {
            answer.threads = (unsigned)strtoul(word + sizeof "threads=" - 1, NULL, 10);
        }
    }
    broker->have -= (size_t)(end + 1 - broker->text);
    memmove(broker->text, end + 1, broker->have);
    return answer;
}
