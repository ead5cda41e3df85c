#include "shim.h"

#include <unistd.h>

void outputs_look(struct unit *unit)
{
    for (size_t i = 0; i < unit->output_count; i++)
        unit->outputs[i].existed = lstat(unit->outputs[i].path, &unit->outputs[i].before) == 0;
}

static bool is_same(const struct stat *one, const struct stat *two)
{
    return one->st_dev == two->st_dev && one->st_ino == two->st_ino && one->st_size == two->st_size &&
           one->st_mtim.tv_sec == two->st_mtim.tv_sec && one->st_mtim.tv_nsec == two->st_mtim.tv_nsec;
}

void outputs_remove_partial(const struct unit *unit)
{
    for (size_t i = 0; i < unit->output_count; i++) {
        const struct output *output = &unit->outputs[i];
        struct stat found;
        /* A file of before that was not touched stays. Devices (-o /dev/null) and links are nobody's to remove. */
        if (lstat(output->path, &found) == 0 && S_ISREG(found.st_mode) &&
            !(output->existed && is_same(&found, &output->before)))
            unlink(output->path);
    }
}
