/*
 * A program on an image of your own: pulled from a registry, or imported from a file or a directory.
 *
 *   cc -std=c99 -Iinclude examples/c/image.c -Ltarget/release -lsbx -Wl,-rpath,"$PWD/target/release" -o image
 *   ./image python:3.12-slim python3 -c 'import sys; print(sys.version)'
 *   ./image ./rootfs.tar.gz /bin/sh -c id
 *
 *   ./image ./Dockerfile
 *
 * What begins with "." or "/" is a path, everything else a name in a registry. A path that ends with "Dockerfile" is built,
 * with its directory as the context; RUN reaches no network here. Without a command the image's own runs. The second time
 * nothing is downloaded, and no step is done again: all of it is in the user's store.
 */

#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <poll.h>
#include <sbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const sbx_error *error) {
    fprintf(stderr, "error %d: %s\n", error->code, error->message);
    exit(1);
}

/* Waits until the operation has ended, and shows how far it is. */
static void follow(sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_event event = SBX_EVENT_INIT;
    int doorbell = sbx_queue_open_fd(queue, &error);
    if (doorbell < 0)
        fail(&error);
    do {
        while (sbx_queue_next(queue, &event, &error) == 1 && event.kind == SBX_EVENT_PROGRESS)
            if (isatty(STDERR_FILENO))
                fprintf(stderr, "\r\033[K%s: %" PRIu64 " of %" PRIu64 " bytes", event.detail, event.value[0],
                        event.value[1]);
        char rung[64];
        struct pollfd ready = {.fd = doorbell, .events = POLLIN};
        if (event.kind != SBX_EVENT_OPERATION_DONE && poll(&ready, 1, -1) == 1 && read(doorbell, rung, sizeof rung) <= 0)
            break;
    } while (event.kind != SBX_EVENT_OPERATION_DONE);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    close(doorbell);
}

/* Builds an image, and says on stderr what it does. */
static sbx_operation *build_image(const char *path) {
    static uint8_t text[1 << 16];
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_build *build = NULL;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    char directory[4096];
    int end = (int)(strrchr(path, '/') + 1 - path);
    snprintf(directory, sizeof directory, "%.*s", end, path);
    if (sbx_build_new(&build, &error) < 0)
        fail(&error);
    /* What is wrong with a value is kept, and said when the build begins. */
    sbx_build_set_dockerfile(build, text, length);
    sbx_build_set_context(build, directory);
    sbx_build_set_output_fd(build, STDERR_FILENO);
    if (sbx_image_build_begin(NULL, build, NULL, 0, &operation, &error) < 0 ||
        sbx_operation_wait(operation, -1, &error) < 0)
        fail(&error);
    sbx_build_free(build);
    return operation;
}

static int is_dockerfile(const char *name) {
    static const char end[] = "Dockerfile";
    size_t length = strlen(name);
    return strchr(name, '/') != NULL && length >= sizeof end && strcmp(name + length - (sizeof end - 1), end) == 0;
}

static sbx_image *get(const char *name) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_queue *queue = NULL;
    sbx_operation *operation = NULL;
    sbx_image *image = NULL;
    if (sbx_queue_new(64, &queue, &error) < 0)
        fail(&error);
    if (is_dockerfile(name)) {
        operation = build_image(name);
    } else {
        int begun = name[0] == '.' || name[0] == '/'
                        ? sbx_image_import_begin(NULL, name, -1, NULL, queue, 0, &operation, &error)
                        : sbx_image_pull_begin(NULL, name, NULL, queue, 0, &operation, &error);
        if (begun < 0)
            fail(&error);
        follow(queue);
    }
    if (sbx_operation_image(operation, &image, &error) < 0)
        fail(&error);
    sbx_operation_free(operation);
    sbx_queue_free(queue);

    sbx_image_summary summary = SBX_IMAGE_SUMMARY_INIT;
    sbx_image_info(image, &summary);
    fprintf(stderr, "image %s, %" PRIu64 " bytes\n", summary.id, summary.bytes);
    return image;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s image|path [command ...]\n", argv[0]);
        return 2;
    }
    sbx_image *image = get(argv[1]);
    sbx_error error = SBX_ERROR_INIT;
    sbx_config *config = NULL;
    if (sbx_config_new(&config, &error) < 0)
        fail(&error);
    sbx_config_set_image(config, image);
    if (argc > 2)
        sbx_config_set_command(config, (const char *const *)(argv + 2), (size_t)argc - 2);
    sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR);
    sbx_config_set_stream(config, SBX_STDERR, SBX_STREAM_MERGED);
    sbx_image_free(image);

    sbx_sandbox *sandbox = NULL;
    if (sbx_create(NULL, config, &sandbox, &error) < 0)
        fail(&error);
    sbx_config_free(config);
    int out = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    if (out < 0)
        fail(&error);
    struct pollfd ready = {.fd = out, .events = POLLIN};
    char bytes[4096];
    ssize_t count;
    while (poll(&ready, 1, -1) == 1 && (count = read(out, bytes, sizeof bytes)) > 0)
        fwrite(bytes, 1, (size_t)count, stdout);
    close(out);

    sbx_exit end = SBX_EXIT_INIT;
    if (sbx_wait(sandbox, -1, &end, &error) < 0)
        fail(&error);
    sbx_sandbox_free(sandbox);
    return end.code;
}
