/* sbx_exec_config and sbx_process without a sandbox: setters, texts, handles. */
#include "check.h"

static void first_bad(sbx_exec_config *config, const char *text) {
    sbx_error error = SBX_ERROR_INIT;
    CHECK(sbx_exec_config_check(config, &error) == SBX_EINVALID || error.code == SBX_EHANDLE);
    CHECK(strstr(error.message, text) != NULL);
    sbx_exec_config_free(config);
}

static sbx_exec_config *with_command(void) {
    const char *argv[] = {"true"};
    sbx_exec_config *config = NULL;
    CHECK(sbx_exec_config_new(&config, NULL) == 0);
    CHECK(sbx_exec_config_set_command(config, argv, 1) == 0);
    CHECK(sbx_exec_config_check(config, NULL) == 0);
    return config;
}

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_exit ended = SBX_EXIT_INIT;
    sbx_process *process = NULL;
    sbx_capture *capture = NULL;
    sbx_output output = SBX_OUTPUT_INIT;

    sbx_exec_config *config = NULL;
    CHECK(sbx_exec_config_new(&config, &error) == 0);
    first_bad(config, "command");
    config = with_command();
    CHECK(sbx_exec_config_set_env(config, "A=B", "") == SBX_EINVALID);
    CHECK(sbx_exec_config_set_workdir(config, "relative") == SBX_EINVALID);
    first_bad(config, "A=B");
    config = with_command();
    CHECK(sbx_exec_config_set_secret(config, "TOKEN", "hunter2\xff") == SBX_EINVALID);
    CHECK(sbx_exec_config_check(config, &error) == SBX_EINVALID);
    CHECK(strstr(error.message, "hunter2") == NULL);
    first_bad(config, "UTF-8");
    config = with_command();
    CHECK(sbx_exec_config_set_user(config, NULL) == SBX_EINVALID);
    first_bad(config, "NULL");
    config = with_command();
    CHECK(sbx_exec_config_set_stream(config, 3, SBX_STREAM_NULL) == SBX_EINVALID);
    first_bad(config, "stream 3");
    config = with_command();
    CHECK(sbx_exec_config_capture_stream(config, SBX_STDIN, 1, 1) == SBX_EINVALID);
    first_bad(config, "stdin");
    config = with_command();
    CHECK(sbx_exec_config_set_timeout_ms(config, -1) == SBX_EINVALID);
    first_bad(config, "-1");
    config = with_command();
    CHECK(sbx_exec_config_set_pty(config, 24, 65536) == SBX_EINVALID);
    first_bad(config, "65536");
    config = with_command();
    CHECK(sbx_exec_config_set_pty(config, 24, 80) == 0);
    CHECK(sbx_exec_config_set_stream(config, SBX_STDOUT, SBX_STREAM_DESCRIPTOR) == 0);
    first_bad(config, "terminal");
    config = with_command();
    CHECK(sbx_exec_config_set_queue(config, NULL, 1) == SBX_EHANDLE);
    sbx_exec_config_free(config);
    CHECK(sbx_exec_config_set_timeout_ms(config, 1) == SBX_EHANDLE);

    config = with_command();
    CHECK(sbx_exec(NULL, config, &process, &error) == SBX_EHANDLE && process == NULL);
    CHECK(sbx_exec_begin((sbx_sandbox *)config, config, &process, &error) == SBX_EHANDLE && process == NULL);
    process = (sbx_process *)config;
    CHECK(sbx_process_wait(process, 0, &ended, &error) == SBX_EHANDLE);
    CHECK(strstr(error.message, "exec config") != NULL);
    CHECK(sbx_process_wait(NULL, 0, &ended, &error) == SBX_EHANDLE);
    CHECK(sbx_process_signal(process, 15, NULL) == SBX_EHANDLE);
    CHECK(sbx_process_resize(process, 1, 1, NULL) == SBX_EHANDLE);
    CHECK(sbx_process_open_fd(process, SBX_TERMINAL, NULL) == SBX_EHANDLE);
    CHECK(sbx_process_capture(process, SBX_STDOUT, &capture, NULL) == SBX_EHANDLE && capture == NULL);
    CHECK(sbx_capture_output(capture, &output) == SBX_EHANDLE && sbx_capture_output(capture, NULL) == SBX_EHANDLE);
    CHECK(sbx_process_failure(process, NULL) == SBX_EHANDLE);
    CHECK(sbx_stop(NULL, 15, 0, NULL) == SBX_EHANDLE);
    CHECK(sbx_sandbox_tag(NULL, "a") == NULL);
    sbx_process_free(process); /* ignored: it isn't one */
    sbx_process_free(NULL);
    CHECK(sbx_exec_config_check(config, NULL) == 0);
    sbx_exec_config_free(config);
    sbx_exec_config_free(NULL);
    return 0;
}
