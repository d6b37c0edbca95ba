package dev.graphbackup.member;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

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
        String last = "";
        while (true) {
            Found found = look(end != 0 && System.nanoTime() >= end);
            if (found != null && found.path() == null) {
                return;
            }
            if (found != null && end == 0) {
                end = System.nanoTime() + (found.sessionTimeoutMs() + MARGIN_MS) * 1_000_000;
            }
            if (found != null && !found.path().equals(last)) {
                last = found.path();
                settings.log("waiting for its last registration to go: " + last);
            }
            Thread.sleep(PAUSE_MS);
        }
    }

    /** The first znode under this member's id, or none; and the session time-out that the ensemble gives. */
    private record Found(String path, long sessionTimeoutMs) {}

    /** One look with a session of its own, or null if the ensemble does not answer. */
    private Found look(boolean late) throws InterruptedException {
        ZooKeeper ensemble = null;
        try {
            int timeout = Integer.parseInt(settings.database().get("ha.zk_session_timeout"));
            ensemble = new ZooKeeper(settings.database().get("ha.coordinators"), timeout, event -> {});
            for (String path : paths(ensemble)) {
                Stat stat = ensemble.exists(path, false);
                if (stat != null && late) {
                    removeIfNobodys(ensemble, path, stat);
                } else if (stat != null) {
                    return new Found(path, ensemble.getSessionTimeout());
                }
            }
            return new Found(null, 0);
        } catch (KeeperException | IOException e) {
            settings.log("ZooKeeper does not answer: " + e);
            return null;
        } finally {
            if (ensemble != null) {
                ensemble.close();
            }
        }
    }

    /**
     * Servers before 3.3.4 can keep a znode whose session was closed while they created it (ZOOKEEPER-1208), for ever:
     * it is deleted if the leader knows no such session.
     */
    private void removeIfNobodys(ZooKeeper ensemble, String path, Stat stat) throws KeeperException, InterruptedException {
        if (!Sessions.isOver(settings.database().get("ha.coordinators"), stat.getEphemeralOwner())) {
            throw new IllegalStateException("another process is member " + settings.serverId() + ": " + path + " stays");
        }
        settings.log("removing " + path + ", which ZooKeeper kept of a session that is over");
        ensemble.delete(path, stat.getVersion());
    }

    private List<String> paths(ZooKeeper ensemble) throws KeeperException, InterruptedException {
        byte[] pointer;
        try {
            pointer = ensemble.getData(cluster, false, null);
        } catch (KeeperException.NoNodeException e) {
            return List.of(); // A fresh ensemble.
        }
        ByteBuffer storeId = ByteBuffer.wrap(pointer);
        String root = "/" + storeId.getLong() + "_" + storeId.getLong();
        return List.of(root + "/ha-servers/" + settings.serverId(), root + "/compatibility-1.8/" + settings.serverId());
    }
}
