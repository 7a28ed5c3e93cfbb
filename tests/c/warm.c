/* What sbx_runtime_keep_warm and its statistics refuse, and what they say without a runsc. */
#include "check.h"
#include <string.h>

int main(void) {
    sbx_error error = SBX_ERROR_INIT;
    sbx_warm_stats stats = SBX_WARM_STATS_INIT;
    sbx_config *config = NULL, *bad = NULL;
    CHECK(sbx_config_new(&config, &error) == 0 && sbx_config_new(&bad, &error) == 0);
    CHECK(sbx_runtime_keep_warm(NULL, NULL, 1, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_keep_warm((sbx_runtime *)config, config, 1, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_keep_warm(NULL, config, 257, &error) == SBX_EINVALID && strstr(error.message, "257") != NULL);
    CHECK(sbx_config_set_mtu(bad, 1) == SBX_EINVALID);
    CHECK(sbx_runtime_keep_warm(NULL, bad, 1, &error) == SBX_EINVALID && strstr(error.message, "mtu 1") != NULL);
    CHECK(sbx_runtime_warm_stats(NULL, NULL, NULL, &error) == SBX_EINVALID);
    CHECK(sbx_runtime_warm_stats((sbx_runtime *)config, NULL, &stats, &error) == SBX_EHANDLE);
    stats.size = 8;
    CHECK(sbx_runtime_warm_stats(NULL, NULL, &stats, &error) == SBX_ESIZE);
    stats.size = 0;
    CHECK(sbx_runtime_warm_stats(NULL, NULL, &stats, &error) == 0 && stats.size == 0 && stats.wanted == 0);
    CHECK(sbx_runtime_keep_warm(NULL, config, 2, &error) == 0);
    CHECK(sbx_runtime_warm_stats(NULL, config, &stats, &error) == 0 && stats.wanted == 2 && stats.hits == 0);
    CHECK(memchr(stats.last_miss, 0, sizeof stats.last_miss) != NULL);
    CHECK(sbx_runtime_keep_warm(NULL, config, 0, &error) == 0);
    CHECK(sbx_runtime_warm_stats(NULL, config, &stats, &error) == 0 && stats.wanted == 0);
    int by_default = sbx_runtime_max_starts(NULL, &error);
    CHECK(by_default >= 4 && by_default <= 256);
    CHECK(sbx_runtime_set_max_starts((sbx_runtime *)config, 1, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_max_starts((sbx_runtime *)config, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_set_max_starts(NULL, 257, &error) == SBX_EINVALID && strstr(error.message, "257") != NULL);
    CHECK(sbx_runtime_set_max_starts(NULL, 256, NULL) == 0 && sbx_runtime_max_starts(NULL, &error) == 256);
    CHECK(sbx_runtime_set_max_starts(NULL, 0, &error) == 0 && sbx_runtime_max_starts(NULL, NULL) == by_default);
    CHECK(sbx_runtime_spares(NULL, &error) == 0);
    CHECK(sbx_runtime_set_spares((sbx_runtime *)config, 1, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_spares((sbx_runtime *)config, &error) == SBX_EHANDLE);
    CHECK(sbx_runtime_set_spares(NULL, 17, &error) == SBX_EINVALID && strstr(error.message, "17") != NULL);
    CHECK(sbx_runtime_set_spares(NULL, 16, NULL) == 0 && sbx_runtime_spares(NULL, &error) == 16);
    CHECK(sbx_runtime_set_spares(NULL, 0, &error) == 0 && sbx_runtime_spares(NULL, NULL) == 0);
    sbx_config_free(config);
    sbx_config_free(bad);
    return 0;
}
