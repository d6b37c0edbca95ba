package dev.graphbackup.member;

import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.neo4j.kernel.EmbeddedGraphDatabase;

/**
 * Opens a store with the embedded engine and prints what it holds: proof that a backup is a database.
 *
 * <p>Opening a store changes it (recovery, logs, locks): run it on a copy.
 */
public final class CountNodes {
    private static final String CLEAN_TRAILER = "NeoStore v0.A.0";

    private CountNodes() {}

    public static void main(String[] args) throws Exception {
        if (args.length < 1 || args.length > 2 && args.length != 4) {
            System.err.println("usage: CountNodes DIR [MARKER]   or   CountNodes DIR INDEX KEY VALUE");
            System.exit(2);
        }
        Path neostore = Path.of(args[0], "neostore");
        if (!Files.isRegularFile(neostore)) {
            // The engine would create an empty database here.
            System.err.println(args[0] + " holds no database");
            System.exit(1);
        }
        boolean recovered = !wasShutDownCleanly(neostore);
        Map<String, String> settings = new HashMap<>(Map.of("neo4j.ext.udc.enabled", "false", "cache_type", "weak"));
        EmbeddedGraphDatabase db = new EmbeddedGraphDatabase(args[0], settings);
        try {
            if (args.length == 4) {
                System.out.printf(
                        "{\"hits\":%d,\"lastCommittedTx\":%d}%n",
                        Nodes.hits(db, args[1], args[2], args[3]), Nodes.lastCommittedTx(db));
                return;
            }
            Nodes.Content content = Nodes.read(db, args.length > 1 ? args[1] : null);
            System.out.printf(
                    "{\"nodes\":%d,\"bytes\":%d,\"lastCommittedTx\":%d,\"storeId\":\"%s\",\"recovered\":%b}%n",
                    content.nodes(), content.bytes(), Nodes.lastCommittedTx(db), Nodes.storeId(db), recovered);
        } finally {
            db.shutdown();
        }
    }

    /** The engine writes the trailer last when it closes a store, and takes it off when it opens one. */
    private static boolean wasShutDownCleanly(Path neostore) throws Exception {
        try (RandomAccessFile file = new RandomAccessFile(neostore.toFile(), "r")) {
            byte[] end = new byte[CLEAN_TRAILER.length()];
            if (file.length() < end.length) {
                return false;
            }
            file.seek(file.length() - end.length);
            file.readFully(end);
            return CLEAN_TRAILER.equals(new String(end, StandardCharsets.US_ASCII));
        }
    }
}
