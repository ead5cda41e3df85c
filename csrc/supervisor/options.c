#include "supervisor.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option LONG_OPTIONS[] = {
    {"control", required_argument, NULL, 'c'}, {"parent", required_argument, NULL, 'p'},
    {"directory", required_argument, NULL, 'd'}, {"scratch", required_argument, NULL, 's'},
    {"containment", required_argument, NULL, 't'}, {"read-only", required_argument, NULL, 'r'},
    {"writable", required_argument, NULL, 'w'}, {"hidden", required_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
};

static _Noreturn void refuse(const char *why)
{
    fprintf(stderr,
            "cudabuild-supervisor: %s\n"
            "usage: cudabuild-supervisor --control FD --parent PID [--directory DIR] [--scratch DIR]\n"
            "           [--containment any|cgroup|namespace|subreaper]\n"
            "           [--read-only PATH | --writable PATH | --hidden PATH]... -- COMMAND [ARGUMENT]...\n"
            "cudabuild starts this program; it is of no use by itself.\n",
            why);
    exit(2);
}

static int number(const char *text)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < 0 || value > 0x7fffffff)
        refuse("a number is expected");
    return (int)value;
}

static enum tier tier(const char *text)
{
    static const char *const NAMES[] = {[ANY] = "any", [CGROUP] = "cgroup", [NAMESPACE] = "namespace",
                                        [SUBREAPER] = "subreaper"};
    for (int i = ANY; i <= SUBREAPER; i++)
        if (strcmp(text, NAMES[i]) == 0)
            return (enum tier)i;
    refuse("there is no such containment");
}

struct options parse_options(int argc, char **argv)
{
    struct options options = {.control = -1, .directory = "."};
    struct rule *rules = calloc((size_t)argc, sizeof *rules);
    if (rules == NULL)
        refuse("no memory");
    options.rules = rules;
    int option;
    while ((option = getopt_long(argc, argv, "+", LONG_OPTIONS, NULL)) != -1) {
        switch (option) {
        case 'c': options.control = number(optarg); break;
        case 'p': options.parent = number(optarg); break;
        case 'd': options.directory = optarg; break;
        case 's': options.scratch = optarg; break;
        case 't': options.tier = tier(optarg); break;
        case 'r':
        case 'w':
        case 'h':
            if (optarg[0] != '/')
                refuse("a rule's path must be absolute");
            rules[options.rule_count++] =
                (struct rule){.path = optarg, .writable = option == 'w', .hidden = option == 'h'};
            break;
        default: refuse("unknown option");
        }
    }
    if (options.control < 0 || options.parent <= 0 || optind >= argc)
        refuse("--control, --parent and a command are needed");
    options.command = argv + optind;
    return options;
}
