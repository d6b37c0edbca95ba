package dev.graphbackup.member;

import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;

/** A member's settings, all from the environment; e2e/neo4j/README.md describes them. */
record Settings(
        int serverId, Path storeDir, Path holdFile, int httpPort, long joinTimeoutSeconds, Map<String, String> database) {

    static Settings from(Map<String, String> env) throws IOException {
        String id = required(env, "HA_SERVER_ID");
        Path storeDir = Path.of(required(env, "STORE_DIR")).toAbsolutePath();
        Map<String, String> database = new LinkedHashMap<>();
        database.put("ha.server_id", id);
        database.put("ha.server", required(env, "HA_SERVER"));
        database.put("ha.coordinators", required(env, "HA_COORDINATORS"));
        database.put("ha.cluster_name", env.getOrDefault("HA_CLUSTER_NAME", "neo4j.ha"));
        database.put("ha.pull_interval", env.getOrDefault("HA_PULL_INTERVAL", "1s"));
        database.put("ha.zk_session_timeout", env.getOrDefault("ZK_SESSION_TIMEOUT_MS", "5000"));
        database.put("online_backup_enabled", "true");
        database.put("online_backup_port", env.getOrDefault("BACKUP_PORT", "6362"));
        database.put("neo4j.ext.udc.enabled", "false");
        // The default cache keeps what was read until memory is short; a test member has little to begin with.
        database.put("cache_type", "weak");
        // Data is stored in chains of blocks. The default of 120 bytes makes large data slow; the kernel's log reader
        // fails above 713. A store keeps the size it was created with.
        database.put("array_block_size", "700");
        Properties more = new Properties();
        more.load(new StringReader(env.getOrDefault("NEO4J_PROPERTIES", "")));
        more.stringPropertyNames().forEach(key -> database.put(key, more.getProperty(key)));
        return new Settings(
                Integer.parseInt(id),
                storeDir,
                storeDir.resolveSibling("hold"),
                Integer.parseInt(env.getOrDefault("HTTP_PORT", "7474")),
                Long.parseLong(env.getOrDefault("JOIN_TIMEOUT_S", "120")),
                database);
    }

    void log(String message) {
        System.err.println("member " + serverId + ": " + message);
    }

    private static String required(Map<String, String> env, String name) {
        String value = env.get(name);
        if (value == null || value.isEmpty()) {
            throw new IllegalArgumentException("set " + name);
        }
        return value;
    }
}
