package dev.graphbackup.member;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.neo4j.kernel.HighlyAvailableGraphDatabase;

/** The HTTP endpoint of a member: its state, and writing and counting nodes. It is there before the database is. */
final class Endpoint {
    private static final int MAX_BYTES = 16 << 20;
    private static final int MAX_PER_TX = 10_000;
    /** About what a transaction may carry in a heap of 128 MiB. */
    private static final int BYTES_PER_TX = 4 << 20;

    private final Member member;
    private final HttpServer server;
    private final ExecutorService threads = Executors.newCachedThreadPool();

    private record Answer(int status, String json) {}

    private interface Action {
        Answer run(HttpExchange request) throws Exception;
    }

    Endpoint(Member member) throws IOException {
        this.member = member;
        server = HttpServer.create(new InetSocketAddress(member.settings().httpPort()), 0);
        server.setExecutor(threads);
        handle("/", "GET", request -> new Answer(200, state()));
        handle("/ready", "GET", request -> {
            String state = state();
            return new Answer(state.contains("\"ready\":true") ? 200 : 503, state);
        });
        handle("/nodes", "POST", this::create);
        handle("/nodes/count", "GET", this::count);
        handle("/index", "POST", this::index);
        handle("/index/count", "GET", this::hits);
        server.start();
    }

    void stop() {
        server.stop(0);
        threads.shutdownNow();
    }

    private void handle(String path, String method, Action action) {
        server.createContext(path, request -> {
            Answer answer;
            try {
                if (!request.getRequestURI().getPath().equals(path)) {
                    answer = error(404, "no such path");
                } else if (!request.getRequestMethod().equals(method)) {
                    answer = error(405, "use " + method);
                } else {
                    answer = action.run(request);
                }
            } catch (IllegalArgumentException e) {
                answer = error(400, e.getMessage());
            } catch (Exception e) {
                e.printStackTrace();
                answer = error(500, e.toString());
            }
            byte[] body = (answer.json() + "\n").getBytes(StandardCharsets.UTF_8);
            request.getResponseHeaders().set("Content-Type", "application/json");
            request.sendResponseHeaders(answer.status(), body.length);
            request.getResponseBody().write(body);
            request.close();
        });
    }

    private String state() {
        HighlyAvailableGraphDatabase db = member.database();
        String start = "{\"id\":" + member.settings().serverId() + ",\"held\":" + member.held();
        if (db != null) {
            try {
                return String.format(
                        "%s,\"ready\":true,\"isMaster\":%b,\"lastCommittedTx\":%d,\"storeId\":\"%s\"}",
                        start, db.isMaster(), Nodes.lastCommittedTx(db), Nodes.storeId(db));
            } catch (RuntimeException e) {
                // Between two roles a member has no database to ask.
            }
        }
        return start + ",\"ready\":false,\"isMaster\":false,\"lastCommittedTx\":null,\"storeId\":null}";
    }

    private Answer create(HttpExchange request) {
        Map<String, String> query = query(request);
        long count = number(query, "count", 1, Long.MAX_VALUE);
        int bytes = (int) number(query, "bytes", 16, MAX_BYTES);
        int perTx = (int) number(query, "perTx", Math.max(1, Math.min(MAX_PER_TX, BYTES_PER_TX / (bytes + 512))), MAX_PER_TX);
        HighlyAvailableGraphDatabase db = member.database();
        if (db == null) {
            return error(503, "not ready");
        }
        Nodes.create(db, count, bytes, perTx, query.get("marker"));
        return new Answer(200, "{\"created\":" + count + ",\"lastCommittedTx\":" + Nodes.lastCommittedTx(db) + "}");
    }

    private Answer count(HttpExchange request) throws Exception {
        HighlyAvailableGraphDatabase db = member.database();
        if (db == null) {
            return error(503, "not ready");
        }
        long tx = Nodes.lastCommittedTx(db);
        Nodes.Content content = Nodes.read(db, query(request).get("marker"));
        return new Answer(
                200, "{\"nodes\":" + content.nodes() + ",\"bytes\":" + content.bytes() + ",\"lastCommittedTx\":" + tx + "}");
    }

    private Answer index(HttpExchange request) {
        Map<String, String> query = query(request);
        long count = number(query, "count", 1, MAX_PER_TX);
        HighlyAvailableGraphDatabase db = member.database();
        if (db == null) {
            return error(503, "not ready");
        }
        Nodes.index(db, text(query, "index"), text(query, "key"), text(query, "value"), count);
        return new Answer(200, "{\"created\":" + count + ",\"lastCommittedTx\":" + Nodes.lastCommittedTx(db) + "}");
    }

    private Answer hits(HttpExchange request) {
        Map<String, String> query = query(request);
        HighlyAvailableGraphDatabase db = member.database();
        if (db == null) {
            return error(503, "not ready");
        }
        long hits = Nodes.hits(db, text(query, "index"), text(query, "key"), text(query, "value"));
        return new Answer(200, "{\"hits\":" + hits + ",\"lastCommittedTx\":" + Nodes.lastCommittedTx(db) + "}");
    }

    private static String text(Map<String, String> query, String name) {
        String text = query.get(name);
        if (text == null || text.isEmpty()) {
            throw new IllegalArgumentException("give " + name);
        }
        return text;
    }

    private static long number(Map<String, String> query, String name, long otherwise, long max) {
        String text = query.get(name);
        long value = text == null ? otherwise : Long.parseLong(text);
        if (value < 1 || value > max) {
            throw new IllegalArgumentException(name + " must be 1 to " + max);
        }
        return value;
    }

    private static Map<String, String> query(HttpExchange request) {
        Map<String, String> query = new HashMap<>();
        String raw = request.getRequestURI().getRawQuery();
        for (String pair : raw == null ? new String[0] : raw.split("&")) {
            String[] parts = pair.split("=", 2);
            query.put(parts[0], parts.length > 1 ? URLDecoder.decode(parts[1], StandardCharsets.UTF_8) : "");
        }
        return query;
    }

    private static Answer error(int status, String message) {
        return new Answer(status, "{\"error\":\"" + message.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", " ") + "\"}");
    }
}
