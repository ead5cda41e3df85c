/* A driver's libnvidia-ml.so.1 for machines that have none: answers from the file that FAKE_NVML names when it is
 * initialised. Its lines: "driver VERSION", "error NUMBER" (what nvmlInit then returns), "gpu MAJOR MINOR UUID NAME".
 * The numbers are those of nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, DRIVER_NOT_LOADED = 9, MOST = 16 };

struct gpu {
    int major, minor;
    char uuid[64], name[96];
};

static struct gpu gpus[MOST];
static unsigned count;
static char driver[80];

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    const char *path = getenv("FAKE_NVML");
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    if (file == NULL)
        return DRIVER_NOT_LOADED;
    char line[256];
    int error = SUCCESS;
    count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        struct gpu *gpu = &gpus[count];
        if (sscanf(line, "driver %79s", driver) == 1 || sscanf(line, "error %d", &error) == 1)
            continue;
        if (count < MOST && sscanf(line, "gpu %d %d %63s %95[^\n]", &gpu->major, &gpu->minor, gpu->uuid, gpu->name) == 4)
            count++;
    }
    fclose(file);
    return error;
}

int nvmlShutdown(void) { return SUCCESS; }

static int copied(const char *text, char *target, unsigned size)
{
    snprintf(target, size, "%s", text);
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned size) { return copied(driver, version, size); }

int nvmlDeviceGetCount_v2(unsigned *number)
{
    *number = count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **device)
{
    if (index >= count)
        return INVALID_ARGUMENT;
    *device = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetName(struct gpu *device, char *name, unsigned size) { return copied(device->name, name, size); }

int nvmlDeviceGetUUID(struct gpu *device, char *uuid, unsigned size) { return copied(device->uuid, uuid, size); }

int nvmlDeviceGetCudaComputeCapability(struct gpu *device, int *major, int *minor)
{
    *major = device->major;
    *minor = device->minor;
    return SUCCESS;
}
