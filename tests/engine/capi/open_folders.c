/* open_folders RUNTIME FOLDER CASES: writes files of a model folder, opens it, and uses it as far as it opens; case by
   case. It prints a line for each: the code, the codes of what was done with the model, and the cause.

   CASES is a file. A case is the number of its files; of each the size of its name, its name, its size, its bytes.
   Numbers have 4 bytes in the order of the machine. */
#include <string.h>

#include "world.h"

static uint32_t number(FILE *cases) {
    uint32_t value;
    REQUIRE(fread(&value, sizeof value, 1, cases) == 1);
    return value;
}

static void write_file(const char *folder, FILE *cases) {
    char path[4096];
    const size_t room = (size_t)snprintf(path, sizeof path, "%s/", folder);
    const uint32_t length = number(cases);
    REQUIRE(room + length < sizeof path && fread(path + room, 1, length, cases) == length);
    path[room + length] = 0;
    const uint32_t size = number(cases);
    char *const bytes = malloc(size + 1);
    REQUIRE(bytes != NULL && fread(bytes, 1, size, cases) == size);
    FILE *const file = fopen(path, "wb");
    REQUIRE(file != NULL && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
    free(bytes);
}

static void check_text(const char *text, size_t room) { REQUIRE(memchr(text, 0, room) != NULL); }

/* Uses a model that opened, though it may be a strange one: nothing it does may crash. */
static void use(const pnp_ovss_model *model) {
    static const char *const names[] = {"cat", "sailing boat", "frog"};
    uint8_t pixels[4][5][3];
    uint16_t labels[4][5];
    pnp_ovss_names *made = NULL;
    pnp_ovss_error error = no_error();
    pnp_ovss_settings settings;
    pnp_ovss_model_info info;
    pnp_ovss_output output;
    const pnp_ovss_image image = {sizeof image, 5, 4, 0, &pixels[0][0][0]};
    memset(pixels, 77, sizeof pixels);
    memset(labels, PATTERN, sizeof labels);
    memset(&output, 0, sizeof output);
    output.struct_size = sizeof output;
    output.labels = &labels[0][0];
    info.struct_size = sizeof info;
    settings.struct_size = sizeof settings;
    REQUIRE(pnp_ovss_model_describe(model, &info, &error) == PNP_OVSS_OK);
    check_text(info.family, sizeof info.family);
    check_text(info.device, sizeof info.device);
    REQUIRE(pnp_ovss_settings_default(model, &settings, &error) == PNP_OVSS_OK);
    int32_t code = pnp_ovss_names_create(model, names, NULL, 3, &settings, &made, &error);
    printf(" %d", code);
    check_error(code, &error);
    if (code != PNP_OVSS_OK) return;
    for (int32_t mode = PNP_OVSS_DROP_PIXELS; mode <= PNP_OVSS_DROP_ATTENTION; mode++) {
        settings.drop_mode = mode;
        settings.passes = settings.passes > 3 ? 3 : settings.passes;
        code = pnp_ovss_segment(model, made, &image, &settings, NULL, &output, &error);
        printf(" %d", code);
        check_error(code, &error);
    }
    pnp_ovss_names_free(made);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 4);
    find_stub(argv[1]);
    pnp_ovss_error error = no_error();
    pnp_ovss_runtime *runtime = NULL;
    const pnp_ovss_runtime_options options = {sizeof options, 0, argv[1], NULL, NULL};
    const pnp_ovss_model_options model_options = {sizeof model_options, 1, NULL, 0, 0};
    REQUIRE(pnp_ovss_runtime_open(&options, &runtime, &error) == PNP_OVSS_OK);
    FILE *const cases = fopen(argv[3], "rb");
    REQUIRE(cases != NULL);
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    for (int byte = fgetc(cases); byte != EOF; byte = fgetc(cases)) {
        ungetc(byte, cases);
        for (uint32_t files = number(cases); files > 0; files--) write_file(argv[2], cases);
        pnp_ovss_model *const unset = (pnp_ovss_model *)&doing, *model = unset;
        error = no_error();
        const int32_t code = pnp_ovss_model_open(runtime, argv[2], &model_options, &model, &error);
        check_error(code, &error);
        REQUIRE((code == PNP_OVSS_OK) == (model != unset));
        printf("%d\t", code);
        char cause[sizeof error.cause];
        memcpy(cause, error.cause, sizeof cause);
        if (code == PNP_OVSS_OK) use(model);
        if (code == PNP_OVSS_OK) pnp_ovss_model_close(model);
        printf("\t%s\n", cause);
        for (int kind = STUB_ENV + 1; stub_live != NULL && kind < STUB_KINDS; kind++) REQUIRE(stub_live(kind) == 0);
    }
    fclose(cases);
    pnp_ovss_runtime_close(runtime);
    return 0;
}
