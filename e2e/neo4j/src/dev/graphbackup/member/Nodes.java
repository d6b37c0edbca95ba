package dev.graphbackup.member;

import java.util.SplittableRandom;
import java.util.zip.CRC32;
import org.neo4j.graphdb.GraphDatabaseService;
import org.neo4j.graphdb.Node;
import org.neo4j.graphdb.Transaction;
import org.neo4j.graphdb.index.IndexHits;
import org.neo4j.kernel.GraphDatabaseAPI;
import org.neo4j.kernel.impl.nioneo.store.StoreId;
import org.neo4j.tooling.GlobalGraphOperations;

/** Writes nodes whose content can be proved, and reads every one of them back. */
final class Nodes {
    private static final String DATA = "data";
    private static final String CHECKSUM = "checksum";
    private static final String MARKER = "marker";

    /** What a store holds: nodes, bytes of their data. A new store has one node, the reference node, without data. */
    record Content(long nodes, long bytes) {}

    /** A node's data is not what was written. */
    static final class DamagedException extends Exception {
        DamagedException(Node node) {
            super("node " + node.getId() + ": data and checksum differ");
        }
    }

    private Nodes() {}

    /** Creates {@code count} nodes with {@code bytes} random bytes each, {@code perTx} in a transaction. */
    static void create(GraphDatabaseService db, long count, int bytes, int perTx, String marker) {
        SplittableRandom random = new SplittableRandom();
        for (long done = 0; done < count; ) {
            long batch = Math.min(perTx, count - done);
            Transaction tx = db.beginTx();
            try {
                for (long i = 0; i < batch; i++) {
                    fill(db.createNode(), random, bytes, marker);
                }
                tx.success();
            } finally {
                tx.finish();
            }
            done += batch;
        }
    }

    private static void fill(Node node, SplittableRandom random, int bytes, String marker) {
        byte[] data = new byte[bytes];
        random.nextBytes(data);
        node.setProperty(DATA, data);
        node.setProperty(CHECKSUM, checksum(data));
        if (marker != null) {
            node.setProperty(MARKER, marker);
        }
    }

    /** Reads every node with all its data, or only those that carry {@code marker} if it is given. */
    static Content read(GraphDatabaseService db, String marker) throws DamagedException {
        long nodes = 0;
        long bytes = 0;
        for (Node node : GlobalGraphOperations.at(db).getAllNodes()) {
            if (marker != null && !marker.equals(node.getProperty(MARKER, null))) {
                continue;
            }
            nodes++;
            byte[] data = (byte[]) node.getProperty(DATA, null);
            if (data == null) {
                continue;
            }
            if (!node.getProperty(CHECKSUM).equals(checksum(data))) {
                throw new DamagedException(node);
            }
            bytes += data.length;
        }
        return new Content(nodes, bytes);
    }

    /** Creates {@code count} nodes and puts each into the index of this name under {@code key} and {@code value}. */
    static void index(GraphDatabaseService db, String index, String key, String value, long count) {
        Transaction tx = db.beginTx();
        try {
            for (long i = 0; i < count; i++) {
                db.index().forNodes(index).add(db.createNode(), key, value);
            }
            tx.success();
        } finally {
            tx.finish();
        }
    }

    /** Nodes that the index of this name finds; asking for an index that does not exist must not create it. */
    static long hits(GraphDatabaseService db, String index, String key, String value) {
        if (!db.index().existsForNodes(index)) {
            return 0;
        }
        long found = 0;
        IndexHits<Node> hits = db.index().forNodes(index).get(key, value);
        try {
            while (hits.hasNext()) {
                hits.next();
                found++;
            }
        } finally {
            hits.close();
        }
        return found;
    }

    static long lastCommittedTx(GraphDatabaseAPI db) {
        return db.getXaDataSourceManager().getNeoStoreDataSource().getLastCommittedTxId();
    }

    /** The store's identity as the operator writes it: creation time and random number, hexadecimal, joined by '-'. */
    static String storeId(GraphDatabaseAPI db) {
        StoreId id = db.getStoreId();
        return String.format("%016x-%016x", id.getCreationTime(), id.getRandomId());
    }

    private static long checksum(byte[] data) {
        CRC32 crc = new CRC32();
        crc.update(data);
        return crc.getValue();
    }
}
