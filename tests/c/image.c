/* Images: imported, found, listed, removed, and every wrong argument. With SBX_RUNSC a sandbox runs on one, too. */
#define _GNU_SOURCE
#include "check.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[] = "/tmp/sbx-c-image-XXXXXX";

/* A path in the test's directory. */
static const char *in(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    CHECK(snprintf(path, sizeof paths[0], "%s/%s", directory, name) < (int)sizeof paths[0]);
    return path;
}

static void shell(const char *command) {
    CHECK(system(command) == 0);
}

/* Waits for an operation and frees it. */
static int ended(sbx_operation *operation, sbx_error *error) {
    int code = sbx_operation_wait(operation, 60000, error);
    sbx_operation_free(operation);
    return code;
}

static void wrong_arguments(sbx_runtime *runtime, sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_image *image = NULL;
    sbx_image_list *list = NULL;
    sbx_image_summary summary = SBX_IMAGE_SUMMARY_INIT;
    sbx_image_options options = SBX_IMAGE_OPTIONS_INIT;
    sbx_config *config = NULL;
    CHECK(sbx_config_new(&config, &error) == 0);
    CHECK(sbx_image_pull_begin(runtime, NULL, NULL, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_pull_begin(runtime, "UPPER", NULL, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "UPPER") != NULL);
    CHECK(sbx_image_pull_begin((sbx_runtime *)queue, "a", NULL, NULL, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_image_pull_begin(runtime, "a", NULL, (sbx_queue *)config, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_image_pull_begin(runtime, "a", NULL, queue, 1, NULL, &error) == SBX_EINVALID);
    options.size = 1;
    CHECK(sbx_image_pull_begin(runtime, "a", &options, queue, 1, &operation, &error) == SBX_ESIZE);
    options = (sbx_image_options)SBX_IMAGE_OPTIONS_INIT;
    options.format = SBX_IMAGE_FORMAT_OCI;
    CHECK(sbx_image_pull_begin(runtime, "a", &options, queue, 1, &operation, &error) == SBX_EINVALID);
    options.format = 99;
    CHECK(sbx_image_import_begin(runtime, "/a", -1, &options, queue, 1, &operation, &error) == SBX_EINVALID);
    options.format = SBX_IMAGE_FORMAT_AUTO;
    options.username = "somebody";
    CHECK(sbx_image_pull_begin(runtime, "a", &options, queue, 1, &operation, &error) == SBX_EINVALID);
    options.username = NULL;
    options.mirrors = "docker.io";
    CHECK(sbx_image_pull_begin(runtime, "a", &options, queue, 1, &operation, &error) == SBX_EINVALID);
    options.mirrors = NULL;
    options.credential_helper = "relative";
    CHECK(sbx_image_pull_begin(runtime, "a", &options, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_import_begin(runtime, NULL, -1, NULL, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_import_begin(runtime, "/a", 0, NULL, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_import_begin(runtime, NULL, 1000000, NULL, queue, 1, &operation, &error) == SBX_ESYSTEM);
    CHECK(error.os_error == EBADF);
    CHECK(sbx_image_find_begin(runtime, NULL, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_find_begin(runtime, "a b", queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_tag_begin(runtime, "a", "", queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_remove_begin(runtime, NULL, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_image_list_begin(runtime, queue, 1, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_image_prune_begin(runtime, 0, queue, 1, NULL, &error) == SBX_EINVALID);
    CHECK(operation == NULL);
    /* What was refused has no event. */
    sbx_event event = SBX_EVENT_INIT;
    CHECK(sbx_queue_next(queue, &event, NULL) == 0);

    CHECK(sbx_operation_image(NULL, &image, &error) == SBX_EHANDLE && image == NULL);
    CHECK(sbx_operation_images(NULL, &list, &error) == SBX_EHANDLE && list == NULL);
    CHECK(sbx_image_info(NULL, &summary) == SBX_EHANDLE && summary.id == NULL);
    CHECK(sbx_image_list_count(NULL) == SBX_EHANDLE);
    CHECK(sbx_image_list_entry(NULL, 0, &summary) == SBX_EHANDLE);
    CHECK(sbx_config_set_image(config, NULL) == SBX_EHANDLE);
    CHECK(sbx_config_set_image(config, (sbx_image *)queue) == SBX_EHANDLE);
    CHECK(sbx_config_set_exit_snapshot(NULL, "a:1") == SBX_EHANDLE);
    CHECK(sbx_config_set_exit_snapshot(config, "A B") == SBX_EINVALID);
    CHECK(sbx_config_add_image_mount(config, NULL, "/a") == SBX_EHANDLE);
    /* It is kept, as any bad value is. */
    CHECK(sbx_config_check(config, &error) == SBX_EHANDLE);
    sbx_config_free(config);
    sbx_image_free(NULL);
    sbx_image_list_free(NULL);
}

static void nothing_there(sbx_runtime *runtime) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_image_list *list = NULL;
    sbx_image *image = NULL;
    CHECK(sbx_image_list_begin(runtime, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    CHECK(sbx_operation_image(operation, &image, &error) == SBX_EINVALID && image == NULL);
    CHECK(sbx_operation_images(operation, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_operation_images(operation, &list, &error) == 0 && sbx_image_list_count(list) == 0);
    sbx_operation_free(operation);
    sbx_image_list_free(list);
    CHECK(sbx_image_list_count(list) == SBX_EHANDLE);
    CHECK(sbx_image_find_begin(runtime, "nothing:1", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == SBX_ENOTFOUND && strstr(error.message, "nothing:1") != NULL);
    CHECK(sbx_image_import_begin(runtime, in("nowhere"), -1, NULL, NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == SBX_ENOTFOUND && error.os_error == ENOENT);
}

/* How many of the library's threads work on images. They take no signal. */
static int image_threads(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        char path[300], line[200], name[64] = "";
        unsigned long long blocked = 0;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (status == NULL)
            continue;
        while (fgets(line, sizeof line, status) != NULL)
            if (sscanf(line, "Name: %63s", name) == 0)
                sscanf(line, "SigBlk: %llx", &blocked);
        fclose(status);
        if (strcmp(name, "sbx-image") == 0 || strcmp(name, "sbx-walk") == 0) {
            count++;
            CHECK((blocked & 1ULL << 14) != 0); /* SIGTERM, for one */
        }
    }
    closedir(tasks);
    return count;
}

/* Imports a root file system of one program. */
static sbx_image *imported(sbx_runtime *runtime, sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_image *image = NULL;
    sbx_image_options options = SBX_IMAGE_OPTIONS_INIT;
    options.tag = "box:1";
    options.format = SBX_IMAGE_FORMAT_TARBALL;
    int fd = open(in("root.tar"), O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(sbx_image_import_begin(runtime, NULL, fd, &options, queue, 9, &operation, &error) == 0);
    CHECK(close(fd) == 0);
    CHECK(image_threads() <= 4);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int refused = sbx_operation_wait(operation, -1, NULL) == SBX_EFORKED &&
                      sbx_image_list_begin(runtime, NULL, 0, &operation, NULL) == SBX_EFORKED;
        _exit(refused ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    int code = sbx_operation_wait(operation, 60000, &error);
    if (code != 0)
        printf("%s\n", error.message);
    CHECK(code == 0);
    sbx_event event = SBX_EVENT_INIT;
    int progress = 0;
    while (sbx_queue_next(queue, &event, NULL) == 1 && event.kind == SBX_EVENT_PROGRESS)
        progress += event.cookie == 9 && event.detail[0] != 0 && event.value[0] <= event.value[1];
    CHECK(progress > 0 && event.kind == SBX_EVENT_OPERATION_DONE && event.cookie == 9 && event.value[0] > 0);
    CHECK(sbx_operation_image(operation, &image, &error) == 0);
    sbx_operation_free(operation);
    sbx_image_summary summary = SBX_IMAGE_SUMMARY_INIT;
    CHECK(sbx_image_info(image, NULL) == SBX_EINVALID);
    CHECK(sbx_image_info(image, &summary) == 0 && strncmp(summary.id, "sha256:", 7) == 0);
    CHECK(strcmp(summary.tags, "docker.io/library/box:1") == 0 && strstr(summary.config, "linux") != NULL);
    CHECK(summary.bytes > 0 && summary.created_ms > 0 && summary.last_used_ms >= summary.created_ms - 1000);
    return image;
}

static void names(sbx_runtime *runtime, sbx_image *image) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_image_list *list = NULL;
    sbx_image_summary summary = SBX_IMAGE_SUMMARY_INIT, found = SBX_IMAGE_SUMMARY_INIT;
    CHECK(sbx_image_info(image, &summary) == 0);
    CHECK(sbx_image_tag_begin(runtime, summary.id, "other", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == 0);
    CHECK(sbx_image_list_begin(runtime, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    CHECK(sbx_operation_images(operation, &list, &error) == 0 && sbx_image_list_count(list) == 1);
    sbx_operation_free(operation);
    CHECK(sbx_image_list_entry(list, 0, &found) == 0 && strcmp(found.id, summary.id) == 0 && found.config == NULL);
    CHECK(strcmp(found.tags, "docker.io/library/box:1\ndocker.io/library/other:latest") == 0);
    CHECK(sbx_image_list_entry(list, 1, &found) == SBX_ENOTFOUND);
    sbx_image_list_free(list);
    CHECK(sbx_image_remove_begin(runtime, "box:1", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == 0);
    sbx_file_totals totals = SBX_FILE_TOTALS_INIT;
    CHECK(sbx_image_prune_begin(runtime, 0, NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    CHECK(sbx_operation_totals(operation, &totals, &error) == 0 && totals.entries == 1 && totals.bytes > 0);
    sbx_operation_free(operation);
    CHECK(sbx_image_find_begin(runtime, "other", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == SBX_ENOTFOUND);
}

/* Every wrong argument of a build: each is kept, and the first is what beginning it returns. */
static void wrong_builds(sbx_runtime *runtime, sbx_queue *queue) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_build *build = NULL;
    sbx_config *config = NULL;
    CHECK(sbx_build_new(NULL, &error) == SBX_EINVALID);
    CHECK(sbx_build_new(&build, &error) == 0);
    CHECK(sbx_image_build_begin(runtime, build, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "dockerfile") != NULL);
    CHECK(sbx_build_set_dockerfile(build, (const uint8_t *)"FROM a\nONBUILD RUN x\n", 21) == 0);
    CHECK(sbx_image_build_begin(runtime, build, queue, 1, &operation, &error) == SBX_EUNSUPPORTED);
    CHECK(strstr(error.message, "line 2") != NULL);
    CHECK(sbx_image_build_begin(runtime, NULL, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_image_build_begin(runtime, (sbx_build *)queue, queue, 1, &operation, &error) == SBX_EHANDLE);
    CHECK(sbx_image_build_begin(runtime, build, queue, 1, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_build_set_no_cache(build) == 0 && sbx_build_set_max_age_ms(build, 0) == 0);
    CHECK(sbx_build_set_tag(build, "a b") == SBX_EINVALID);
    CHECK(sbx_image_build_begin(runtime, build, queue, 1, &operation, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "a b") != NULL);
    CHECK(sbx_build_set_dockerfile(build, NULL, 5) == SBX_EINVALID);
    CHECK(sbx_build_set_dockerfile(build, (const uint8_t *)"\xff", 1) == SBX_EINVALID);
    CHECK(sbx_build_set_context(build, NULL) == SBX_EINVALID && sbx_build_set_context(build, "") == SBX_EINVALID);
    CHECK(sbx_build_add_context(build, "a/b", "/") == SBX_EINVALID);
    CHECK(sbx_build_add_context(build, NULL, "/") == SBX_EINVALID);
    CHECK(sbx_build_add_arg(build, "", "x") == SBX_EINVALID && sbx_build_add_arg(build, "A", NULL) == SBX_EINVALID);
    CHECK(sbx_build_add_secret(build, ".a", (const uint8_t *)"x", 1) == SBX_EINVALID);
    CHECK(sbx_build_add_secret(build, "a", NULL, 1) == SBX_EINVALID && sbx_build_add_secret(build, "a", NULL, 0) == 0);
    CHECK(sbx_build_set_config(build, NULL) == SBX_EHANDLE);
    CHECK(sbx_config_new(&config, &error) == 0 && sbx_build_set_config(build, config) == 0);
    CHECK(sbx_config_set_name(config, "it") == 0 && sbx_build_set_config(build, config) == SBX_EINVALID);
    CHECK(sbx_build_set_timeout_ms(build, 0) == SBX_EINVALID && sbx_build_set_max_age_ms(build, -1) == SBX_EINVALID);
    CHECK(sbx_build_set_max_bytes(build, 1) == 0 && sbx_build_set_max_bytes(build, 0) == SBX_EINVALID);
    CHECK(sbx_build_set_max_bytes(NULL, 1) == SBX_EHANDLE);
    const char *patterns[] = {"*.key", "!a", "a["}, *many[10001];
    for (size_t at = 0; at < sizeof many / sizeof *many; at++)
        many[at] = "a";
    CHECK(sbx_build_set_ignore(build, patterns, 2) == 0 && sbx_build_set_ignore(build, NULL, 0) == 0);
    CHECK(sbx_build_set_ignore(build, patterns, 3) == SBX_EINVALID && sbx_build_set_ignore(build, NULL, 1) == SBX_EINVALID);
    CHECK(sbx_build_set_ignore(build, many, 10000) == 0 && sbx_build_set_ignore(build, many, 10001) == SBX_ELIMIT);
    CHECK(sbx_build_set_ignore(NULL, patterns, 2) == SBX_EHANDLE);
    CHECK(sbx_build_set_output_fd(build, -1) == SBX_ESYSTEM);
    CHECK(operation == NULL);
    sbx_event event = SBX_EVENT_INIT;
    CHECK(sbx_queue_next(queue, &event, NULL) == 0);
    sbx_config_free(config);
    sbx_build_free(build);
    sbx_build_free(build);
    sbx_build_free(NULL);
    CHECK(sbx_build_set_no_cache(build) == SBX_EHANDLE);
}

/* Builds an image, with a secret, an argument, a context and all that is said in a pipe. */
static void a_build(sbx_runtime *runtime, sbx_queue *queue) {
    const char *text = "FROM box:1\nARG WHO\nCOPY root.tar /srv/\nCOPY --from=bin busybox /busybox\n"
                       "RUN --mount=type=secret,id=key [\"/busybox\", \"sh\", \"-c\", \"/busybox cat /run/secrets/key; echo $WHO\"]\n";
    const char *expected = "[1/4] FROM box:1\n[2/4] COPY root.tar /srv/\n[3/4] COPY --from=bin busybox /busybox\n[4/4] RUN ";
    sbx_error error = SBX_ERROR_INIT;
    sbx_operation *operation = NULL;
    sbx_build *build = NULL;
    sbx_image *image = NULL;
    const char *patterns[] = {"*", "!root.tar"};
    int said[2];
    CHECK(pipe(said) == 0);
    CHECK(sbx_build_new(&build, &error) == 0);
    CHECK(sbx_build_set_dockerfile(build, (const uint8_t *)text, strlen(text)) == 0);
    CHECK(sbx_build_set_context(build, directory) == 0 && sbx_build_set_ignore(build, patterns, 2) == 0);
    CHECK(sbx_build_add_context(build, "bin", in("root/bin")) == 0);
    CHECK(sbx_build_add_arg(build, "WHO", "me") == 0);
    CHECK(sbx_build_add_secret(build, "key", (const uint8_t *)"secret\n", 7) == 0);
    CHECK(sbx_build_set_tag(build, "built:1") == 0 && sbx_build_set_timeout_ms(build, 60000) == 0);
    CHECK(sbx_build_set_output_fd(build, said[1]) == 0 && close(said[1]) == 0);
    CHECK(sbx_image_build_begin(runtime, build, queue, 5, &operation, &error) == 0);
    sbx_build_free(build);
    int code = sbx_operation_wait(operation, 60000, &error);
    if (code != 0)
        printf("%s\n", error.message);
    CHECK(code == 0 && sbx_operation_image(operation, &image, &error) == 0);
    sbx_operation_free(operation);
    sbx_image_summary summary = SBX_IMAGE_SUMMARY_INIT;
    CHECK(sbx_image_info(image, &summary) == 0 && strcmp(summary.tags, "docker.io/library/built:1") == 0);
    char output[2000] = "";
    size_t length = 0;
    for (ssize_t got = 1; got > 0 && length < sizeof output - 1; length += (size_t)got) {
        got = read(said[0], output + length, sizeof output - 1 - length);
        CHECK(got >= 0);
    }
    CHECK(close(said[0]) == 0 && strncmp(output, expected, strlen(expected)) == 0);
    CHECK(strstr(output, "\nsecret\nme\ndone: sha256:") != NULL);
    sbx_image_free(image);
    sbx_event event = SBX_EVENT_INIT;
    while (sbx_queue_next(queue, &event, NULL) == 1 && event.kind == SBX_EVENT_PROGRESS)
        CHECK(event.cookie == 5 && event.value[0] <= event.value[1]);
    CHECK(event.kind == SBX_EVENT_OPERATION_DONE && event.cookie == 5);
    CHECK(sbx_image_remove_begin(runtime, "built:1", NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == 0);
    /* What its steps have left. */
    CHECK(sbx_image_prune_begin(runtime, 4 << 20, NULL, 0, &operation, &error) == 0);
    CHECK(ended(operation, &error) == 0);
}

/* On an image that is in the store no more. */
static void a_sandbox(sbx_runtime *runtime, sbx_image *image) {
    const char *entrypoint[] = {"/bin/busybox", "echo"}, *command[] = {"hello"};
    sbx_error error = SBX_ERROR_INIT;
    sbx_config *config = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_exit end = SBX_EXIT_INIT;
    CHECK(sbx_config_new(&config, &error) == 0);
    CHECK(sbx_config_set_image(config, image) == 0);
    CHECK(sbx_config_add_image_mount(config, image, "/mnt/box") == 0);
    CHECK(sbx_config_set_entrypoint(config, entrypoint, 2) == 0 && sbx_config_set_command(config, command, 1) == 0);
    CHECK(sbx_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR) == 0);
    CHECK(sbx_config_set_exit_snapshot(config, "exit:1") == 0);
    sbx_image_free(image);
    int code = sbx_create(runtime, config, &sandbox, &error);
    if (code != 0)
        printf("%s\n", error.message);
    CHECK(code == 0);
    CHECK(sbx_wait(sandbox, 60000, &end, &error) == 0 && end.code == 0);
    int out = sbx_sandbox_open_fd(sandbox, SBX_STDOUT, &error);
    char said[16] = "";
    struct pollfd ready = {.fd = out, .events = POLLIN};
    CHECK(poll(&ready, 1, 30000) == 1 && read(out, said, sizeof said - 1) == 6 && strcmp(said, "hello\n") == 0);
    CHECK(close(out) == 0);
    /* What it had at its end, in another one that has no program: a directory of that, and a copy. */
    sbx_image *kept = NULL, *directory_image = NULL;
    sbx_operation *operation = NULL;
    sbx_file_totals totals = SBX_FILE_TOTALS_INIT;
    CHECK(sbx_sandbox_exit_image(sandbox, &kept, &error) == 0);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
    CHECK(sbx_config_new(&config, &error) == 0 && sbx_config_set_no_command(config) == 0);
    CHECK(sbx_config_set_image(config, kept) == 0);
    CHECK(sbx_create(runtime, config, &sandbox, &error) == 0);
    CHECK(sbx_sandbox_exit_image(sandbox, &kept, &error) == SBX_ENOTFOUND);
    CHECK(sbx_sandbox_snapshot_directory_begin(sandbox, "/bin", "bin:1", NULL, 0, &operation, &error) == 0);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    CHECK(sbx_operation_image(operation, &directory_image, &error) == 0);
    CHECK(sbx_operation_totals(operation, &totals, &error) == 0 && totals.entries == 2 && totals.skipped == 0);
    sbx_operation_free(operation);
    CHECK(sbx_sandbox_copy_image_begin(sandbox, directory_image, "/", NULL, 0, &operation, &error) == SBX_EINVALID);
    CHECK(sbx_sandbox_copy_image_begin(sandbox, directory_image, "/data/bin", NULL, 0, &operation, &error) == 0);
    sbx_image_free(directory_image);
    CHECK(sbx_operation_wait(operation, 60000, &error) == 0);
    CHECK(sbx_operation_totals(operation, &totals, &error) == 0 && totals.entries == 2 && totals.bytes > 100000);
    sbx_operation_free(operation);
    sbx_image_free(kept);
    sbx_sandbox_free(sandbox);
    sbx_config_free(config);
    CHECK(sbx_config_new(&config, &error) == 0 && sbx_config_set_no_command(config) == 0);
    CHECK(sbx_config_set_entrypoint(config, NULL, 0) == 0 && sbx_config_check(config, &error) == 0);
    sbx_config_free(config);
}

int main(void) {
    CHECK(mkdtemp(directory) != NULL);
    char command[512];
    snprintf(command, sizeof command,
             "cd %s && mkdir -p root/bin && cp /usr/bin/busybox root/bin && tar -C root -cf root.tar .", directory);
    shell(command);
    sbx_error error = SBX_ERROR_INIT;
    sbx_runtime *runtime = NULL;
    sbx_queue *queue = NULL;
    CHECK(sbx_queue_new(1000, &queue, &error) == 0);
    const char *runsc = getenv("SBX_RUNSC");
    if (runsc == NULL) {
        /* A runtime looks for runsc; the default one doesn't, and nothing here touches its store. */
        wrong_arguments(NULL, queue);
        wrong_builds(NULL, queue);
    } else {
        sbx_runtime_config config = SBX_RUNTIME_CONFIG_INIT;
        config.image_directory = in("images");
        CHECK(sbx_runtime_new(&config, &runtime, &error) == 0);
        wrong_arguments(runtime, queue);
        wrong_builds(runtime, queue);
        nothing_there(runtime);
        sbx_image *image = imported(runtime, queue);
        a_build(runtime, queue);
        names(runtime, image);
        a_sandbox(runtime, image);
    }
    sbx_runtime_free(runtime);
    CHECK(image_threads() == 0);
    sbx_queue_free(queue);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    shell(command);
    return 0;
}
