/* What the options of gcc, clang, nvcc and ld mean for a unit. What is not here counts as a flag without a value; the
 * worst that a missing row can do is to take the value of an option for an input, and only where such a file exists. */
#include "shim.h"

#include <string.h>

struct row {
    const char *name;
    enum meaning meaning;
};

static const struct row HOST[] = {
    {"-E", IMMEDIATE}, {"-M", IMMEDIATE}, {"-MM", IMMEDIATE}, {"-fsyntax-only", IMMEDIATE}, {"-###", IMMEDIATE},
    {"--version", IMMEDIATE}, {"-dumpversion", IMMEDIATE}, {"-dumpfullversion", IMMEDIATE},
    {"-dumpmachine", IMMEDIATE}, {"-dumpspecs", IMMEDIATE}, {"--help", IMMEDIATE}, {"--target-help", IMMEDIATE},
    {"-cc1", IMMEDIATE}, {"-cc1as", IMMEDIATE},
    {"-c", COMPILE}, {"-S", ASSEMBLE}, {"-MD", DEPENDS}, {"-MMD", DEPENDS_USER},
    {"-o", OUTPUT}, {"-MF", DEPFILE}, {"-MT", TARGET}, {"-MQ", TARGET}, {"-x", LANGUAGE},
    {"-I", FOLDER}, {"-D", VALUE}, {"-U", VALUE}, {"-L", VALUE}, {"-l", VALUE}, {"-B", VALUE}, {"-A", VALUE},
    {"-T", VALUE}, {"-u", VALUE}, {"-z", VALUE}, {"-e", VALUE}, {"-b", VALUE}, {"-V", VALUE}, {"-include", VALUE},
    {"-imacros", VALUE}, {"-isystem", FOLDER}, {"-iquote", FOLDER}, {"-idirafter", FOLDER}, {"-iprefix", VALUE},
    {"-iwithprefix", VALUE}, {"-iwithprefixbefore", VALUE}, {"-isysroot", VALUE}, {"-imultilib", VALUE},
    {"-imultiarch", VALUE}, {"-include-pch", VALUE}, {"--sysroot", VALUE}, {"--param", VALUE}, {"-aux-info", VALUE},
    {"-arch", VALUE}, {"-target", VALUE}, {"-dumpbase", VALUE}, {"-dumpbase-ext", VALUE}, {"-dumpdir", VALUE},
    {"-wrapper", VALUE}, {"-mllvm", VALUE}, {"-Xlinker", VALUE}, {"-Xassembler", VALUE}, {"-Xpreprocessor", VALUE},
    {"-Xclang", VALUE}, {"-Xarch_host", VALUE}, {"-Xarch_device", VALUE},
};

static const struct row DEVICE[] = {
    {"-V", IMMEDIATE}, {"--version", IMMEDIATE}, {"-h", IMMEDIATE}, {"--help", IMMEDIATE}, {"-dryrun", IMMEDIATE},
    {"--dryrun", IMMEDIATE}, {"-E", IMMEDIATE}, {"--preprocess", IMMEDIATE}, {"-M", IMMEDIATE},
    {"--generate-dependencies", IMMEDIATE}, {"-MM", IMMEDIATE}, {"--generate-nonsystem-dependencies", IMMEDIATE},
    {"-code-ls", IMMEDIATE}, {"--list-gpu-code", IMMEDIATE}, {"-arch-ls", IMMEDIATE}, {"--list-gpu-arch", IMMEDIATE},
    {"-clean", IMMEDIATE}, {"--clean-targets", IMMEDIATE},
    {"-run", IMMEDIATE}, {"--run", IMMEDIATE}, /* a program that has run halfway must not be run again */
    {"-c", COMPILE}, {"--compile", COMPILE}, {"-dc", COMPILE}, {"--device-c", COMPILE}, {"-dw", COMPILE},
    {"--device-w", COMPILE}, {"-ptx", PTX}, {"--ptx", PTX}, {"-cubin", CUBIN}, {"--cubin", CUBIN},
    {"-fatbin", FATBIN}, {"--fatbin", FATBIN}, {"-MD", DEPENDS}, {"--generate-dependencies-with-compile", DEPENDS},
    {"-MMD", DEPENDS_USER}, {"--generate-nonsystem-dependencies-with-compile", DEPENDS_USER},
    {"-o", OUTPUT}, {"--output-file", OUTPUT}, {"-MF", DEPFILE}, {"--dependency-output", DEPFILE}, {"-MT", TARGET},
    {"--dependency-target-name", TARGET}, {"-x", LANGUAGE}, {"--x", LANGUAGE}, {"-t", THREADS},
    {"--threads", THREADS}, {"-optf", MORE}, {"--options-file", MORE},
    {"-I", FOLDER}, {"--include-path", FOLDER}, {"-D", VALUE}, {"--define-macro", VALUE}, {"-U", VALUE},
    {"--undefine-macro", VALUE}, {"-L", VALUE}, {"--library-path", VALUE}, {"-l", VALUE}, {"--library", VALUE},
    {"-include", VALUE}, {"--pre-include", VALUE}, {"-isystem", FOLDER}, {"--system-include", FOLDER}, {"-odir", VALUE},
    {"--output-directory", VALUE}, {"-ccbin", VALUE}, {"--compiler-bindir", VALUE}, {"-arbin", VALUE},
    {"--archiver-binary", VALUE}, {"-cudart", VALUE}, {"--cudart", VALUE}, {"-cudadevrt", VALUE},
    {"--cudadevrt", VALUE}, {"-ldir", VALUE}, {"--libdevice-directory", VALUE}, {"-target-dir", VALUE},
    {"--target-directory", VALUE}, {"-O", VALUE}, {"--optimize", VALUE}, {"-Ofc", VALUE}, {"-dopt", VALUE},
    {"--dopt", VALUE}, {"-std", VALUE}, {"--std", VALUE}, {"-m", VALUE}, {"--machine", VALUE},
    {"-Xcompiler", VALUE}, {"--compiler-options", VALUE}, {"-Xlinker", VALUE}, {"--linker-options", VALUE},
    {"-Xarchive", VALUE}, {"--archive-options", VALUE}, {"-Xptxas", VALUE}, {"--ptxas-options", VALUE},
    {"-Xnvlink", VALUE}, {"--nvlink-options", VALUE}, {"-Xcudafe", VALUE}, {"-Xfatbin", VALUE}, {"-Xnvvm", VALUE},
    {"-gencode", VALUE}, {"--generate-code", VALUE}, {"-arch", VALUE}, {"--gpu-architecture", VALUE},
    {"-code", VALUE}, {"--gpu-code", VALUE}, {"-rdc", VALUE}, {"--relocatable-device-code", VALUE},
    {"-maxrregcount", VALUE}, {"--maxrregcount", VALUE}, {"-split-compile", VALUE}, {"--split-compile", VALUE},
    {"-split-compile-extended", VALUE}, {"--split-compile-extended", VALUE}, {"-keep-dir", VALUE},
    {"--keep-dir", VALUE}, {"-time", VALUE}, {"--time", VALUE}, {"-fdevice-time-trace", VALUE},
    {"--fdevice-time-trace", VALUE}, {"-e", VALUE}, {"--entries", VALUE}, {"-default-stream", VALUE},
    {"--default-stream", VALUE}, {"-Werror", VALUE}, {"--Werror", VALUE}, {"-diag-error", VALUE},
    {"--diag-error", VALUE}, {"-diag-suppress", VALUE}, {"--diag-suppress", VALUE}, {"-diag-warn", VALUE},
    {"--diag-warn", VALUE}, {"-run-args", VALUE}, {"--run-args", VALUE}, {"-idp", VALUE}, {"-ddp", VALUE},
    {"-dp", VALUE}, {"-hls", VALUE}, {"-jtd", VALUE}, {"-frandom-seed", VALUE}, {"--frandom-seed", VALUE},
};

static const struct row LINKING[] = {
    {"--version", IMMEDIATE}, {"-v", IMMEDIATE}, {"-V", IMMEDIATE}, {"--help", IMMEDIATE},
    {"--print-output-format", IMMEDIATE},
    {"-o", OUTPUT}, {"--output", OUTPUT}, {"--dependency-file", DEPFILE},
    {"-l", VALUE}, {"-L", VALUE}, {"-e", VALUE}, {"-m", VALUE}, {"-T", VALUE}, {"-u", VALUE}, {"-z", VALUE},
    {"-h", VALUE}, {"-b", VALUE}, {"-y", VALUE}, {"-Y", VALUE}, {"-A", VALUE}, {"-a", VALUE}, {"-c", VALUE},
    {"-f", VALUE}, {"-F", VALUE}, {"-G", VALUE}, {"-I", VALUE}, {"-R", VALUE}, {"-soname", VALUE},
    {"-rpath", VALUE}, {"-rpath-link", VALUE}, {"-dynamic-linker", VALUE}, {"--dynamic-linker", VALUE},
    {"-Map", VALUE}, {"-plugin", VALUE}, {"--version-script", VALUE}, {"--dynamic-list", VALUE},
};

struct table {
    const struct row *rows;
    size_t count;
};

static struct table table_of(enum kind kind)
{
    if (kind == NVCC)
        return (struct table){DEVICE, sizeof DEVICE / sizeof *DEVICE};
    if (kind == LINKER)
        return (struct table){LINKING, sizeof LINKING / sizeof *LINKING};
    return (struct table){HOST, sizeof HOST / sizeof *HOST};
}

/* gcc takes these with the value in the same word, without a sign between. */
static enum meaning attached(const char *word, const char **value)
{
    static const struct row ATTACHED[] = {
        {"-o", OUTPUT}, {"-MF", DEPFILE}, {"-MT", TARGET}, {"-MQ", TARGET}, {"-x", LANGUAGE},
    };
    for (size_t i = 0; i < sizeof ATTACHED / sizeof *ATTACHED; i++) {
        if (begins(word, ATTACHED[i].name)) {
            *value = word + strlen(ATTACHED[i].name);
            return ATTACHED[i].meaning;
        }
    }
    /* Questions that are answered at once: -print-search-dirs, --help=warnings. */
    return begins(word, "-print-") || begins(word, "--print-") || begins(word, "--help=") ? IMMEDIATE : FLAG;
}

static bool takes_value(enum meaning meaning)
{
    return meaning == VALUE || meaning == FOLDER || meaning == OUTPUT || meaning == DEPFILE || meaning == TARGET ||
           meaning == LANGUAGE || meaning == THREADS || meaning == MORE;
}

enum meaning meaning_of(enum kind kind, const char *word, const char **value)
{
    struct table table = table_of(kind);
    size_t length = strcspn(word, "=");
    *value = NULL;
    for (size_t i = 0; i < table.count; i++) {
        const struct row *row = &table.rows[i];
        if (strcmp(word, row->name) == 0)
            return row->meaning;
        bool assigned = word[length] == '=' && strlen(row->name) == length && memcmp(word, row->name, length) == 0;
        if (assigned && takes_value(row->meaning)) {
            *value = word + length + 1;
            return row->meaning;
        }
    }
    if (kind == NVCC && word[1] == 't' && word[2] >= '0' && word[2] <= '9') {
        *value = word + 2;
        return THREADS;
    }
    return kind == NVCC ? FLAG : attached(word, value);
}
