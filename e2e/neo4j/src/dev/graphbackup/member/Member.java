package dev.graphbackup.member;

import java.nio.file.Files;
import org.neo4j.kernel.HighlyAvailableGraphDatabase;

/** A member of a Neo4j 1.8 HA cluster with an HTTP endpoint for tests. */
public final class Member {
    private final Settings settings;
    private volatile HighlyAvailableGraphDatabase database;
    private volatile boolean held;

    private Member(Settings settings) {
        this.settings = settings;
    }

    public static void main(String[] args) {
        try {
            Member member = new Member(Settings.from(System.getenv()));
            Endpoint endpoint = new Endpoint(member);
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                endpoint.stop();
                member.stop();
            }));
            member.waitWhileHeld();
            member.start();
        } catch (Throwable e) {
            e.printStackTrace();
            System.exit(1);
        }
    }

    Settings settings() {
        return settings;
    }

    boolean held() {
        return held;
    }

    /** The database, or null before it has joined and after it was shut down. */
    HighlyAvailableGraphDatabase database() {
        return database;
    }

    /**
     * Stays out of the cluster as long as the hold file is there.
     *
     * <p>A killed container is restarted at once, often before its ZooKeeper session has ended; with the file in
     * place before the kill the member is lost for as long as the test wants.
     */
    private void waitWhileHeld() throws InterruptedException {
        held = Files.exists(settings.holdFile());
        if (held) {
            settings.log("held by " + settings.holdFile());
        }
        while (held) {
            Thread.sleep(100);
            held = Files.exists(settings.holdFile());
        }
    }

    /** Joins, or ends the process: a member that starts too soon, or on another cluster's store, never joins. */
    private void start() throws InterruptedException {
        endUnlessJoined();
        new Registration(settings).waitUntilGone();
        settings.log("joining " + settings.database().get("ha.cluster_name"));
        HighlyAvailableGraphDatabase joined =
                new HighlyAvailableGraphDatabase(settings.storeDir().toString(), settings.database());
        database = joined;
        settings.log(joined.isMaster() ? "joined as master" : "joined as slave");
    }

    /** Whoever started the process starts it again. */
    private void endUnlessJoined() {
        Thread watch = new Thread(() -> {
            try {
                Thread.sleep(settings.joinTimeoutSeconds() * 1000);
            } catch (InterruptedException e) {
                return;
            }
            if (database == null) {
                settings.log("not joined within " + settings.joinTimeoutSeconds() + " s");
                // Without the hooks: an orderly end may wait for what hangs.
                Runtime.getRuntime().halt(1);
            }
        });
        watch.setDaemon(true);
        watch.start();
    }

    private void stop() {
        HighlyAvailableGraphDatabase running = database;
        database = null;
        if (running != null) {
            running.shutdown();
            settings.log("shut down");
        }
    }
}
