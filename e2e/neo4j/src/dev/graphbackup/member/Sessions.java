package dev.graphbackup.member;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;

/** What the leader of a ZooKeeper ensemble knows of sessions, asked by the four-letter word {@code dump}. */
final class Sessions {
    private static final int TIMEOUT_MS = 3_000;
    private static final int ANSWER_MAX = 1 << 20;
    /** Only the leader, or a server that is alone, lists sessions. */
    private static final String LISTED = "Session Sets (";
    /** From here on the answer lists znodes by session, of sessions that are over as well. */
    private static final String EPHEMERALS = "ephemeral nodes dump:";

    private Sessions() {}

    /** Whether a leader answers, and knows no such session. */
    static boolean isOver(String servers, long session) {
        for (String server : servers.split(",")) {
            String answer = dump(server);
            int end = answer.indexOf(EPHEMERALS);
            if (end >= 0 && answer.contains(LISTED)) {
                return !answer.substring(0, end).contains("0x" + Long.toHexString(session) + "\n");
            }
        }
        return false;
    }

    /** The answer of one server, empty if there is none. */
    private static String dump(String server) {
        int colon = server.lastIndexOf(':');
        try (Socket socket = new Socket()) {
            socket.connect(
                    new InetSocketAddress(server.substring(0, colon), Integer.parseInt(server.substring(colon + 1))), TIMEOUT_MS);
            socket.setSoTimeout(TIMEOUT_MS);
            socket.getOutputStream().write("dump".getBytes(StandardCharsets.US_ASCII));
            return new String(socket.getInputStream().readNBytes(ANSWER_MAX), StandardCharsets.US_ASCII);
        } catch (IOException | RuntimeException e) {
            return "";
        }
    }
}
