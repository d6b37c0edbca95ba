package dev.graphbackup.member;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;

/**
 * What the last process of this member has left in ZooKeeper.
 *
 * <p>The znodes of a process that was killed stay until its session ends. A member of 1.8 that starts before then
 * tries to replace them in a recursion without a pause, overflows its stack, and never joins.
 */
final class Registration {
    /** Beyond the session time-out. An ensemble that elects a leader counts every session's time from the start. */
    private static final long MARGIN_MS = 20_000;

    private static final long PAUSE_MS = 500;

    private final Settings settings;
    private final String cluster;

    Registration(Settings settings) {
        this.settings = settings;
        cluster = "/" + settings.database().get("ha.cluster_name");
    }

    /**
     * Returns when nothing is registered under this member's id. Waits for the ensemble for as long as it takes: who
     * calls this bounds the whole start.
     *
     * @throws IllegalStateException if the znodes outlive every session of a dead process: another process has this id
     */
    void waitUntilGone() throws InterruptedException {
        long end = 0;
        String last = null;
        while (true) {
            Found found = look();
            if (found != null) {
                if (found.path() == null) {
                    return;
                }
                end = end == 0 ? System.nanoTime() + (found.sessionTimeoutMs() + MARGIN_MS) * 1_000_000 : end;
                if (!found.path().equals(last)) {
                    settings.log("waiting for its last registration to go: " + found.path());
                    last = found.path();
                }
                if (System.nanoTime() >= end) {
                    throw new IllegalStateException("another process is member " + settings.serverId() + ": " + last + " stays");
                }
            }
            Thread.sleep(PAUSE_MS);
        }
    }

    /** The first znode under this member's id, or none; and the session time-out that the ensemble gives. */
    private record Found(String path, long sessionTimeoutMs) {}

    /** One look with a session of its own, or null if the ensemble does not answer. */
    private Found look() throws InterruptedException {
        ZooKeeper ensemble = null;
        try {
            int timeout = Integer.parseInt(settings.database().get("ha.zk_session_timeout"));
            ensemble = new ZooKeeper(settings.database().get("ha.coordinators"), timeout, event -> {});
            String path = registered(ensemble);
            return new Found(path, ensemble.getSessionTimeout());
        } catch (KeeperException | IOException e) {
            settings.log("ZooKeeper does not answer: " + e);
            return null;
        } finally {
            if (ensemble != null) {
                ensemble.close();
            }
        }
    }

    private String registered(ZooKeeper ensemble) throws KeeperException, InterruptedException {
        byte[] pointer;
        try {
            pointer = ensemble.getData(cluster, false, null);
        } catch (KeeperException.NoNodeException e) {
            return null; // A fresh ensemble.
        }
        ByteBuffer storeId = ByteBuffer.wrap(pointer);
        String root = "/" + storeId.getLong() + "_" + storeId.getLong();
        for (String parent : List.of("ha-servers", "compatibility-1.8")) {
            String path = root + "/" + parent + "/" + settings.serverId();
            if (ensemble.exists(path, false) != null) {
                return path;
            }
        }
        return null;
    }
}
