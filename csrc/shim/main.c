#include "shim.h"

#include <stdlib.h>
#include <string.h>

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0';
}

int main(int argc, char **argv)
{
    struct program program = find_program(argc, argv);
    const char *guard = getenv("CUDABUILD_GUARD");
    bool guarded = is_set("CUDABUILD_SOCKET") && !is_set("CUDABUILD_SHIM_BYPASS") &&
                   (guard == NULL || strcmp(guard, "off") != 0);
    struct unit unit;
    if (guarded && read_unit(&program, &unit)) {
        kept_give(&unit);
        run_unit(&program, &unit);
    }
    become(&program);
}
