package dev.headwater.signins;

import io.trino.spi.security.AccessDeniedException;
import io.trino.spi.security.PasswordAuthenticator;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.Principal;
import java.time.Instant;
import java.util.UUID;
import java.util.function.LongSupplier;

/**
 * Refuses everybody, and records who asked: Trino asks it only when the authenticators before it have refused.
 *
 * <p>A line a refusal, as JSON: key, time, user; never the password. At most LINES_PER_MINUTE, and none while the
 * file has BYTES_MAX; those beyond are counted, and the next line that is written says how many they were.
 */
public final class Refusals implements PasswordAuthenticator {
    static final int LINES_PER_MINUTE = 60;
    static final long BYTES_MAX = 1 << 20;
    static final int USER_CHARS_MAX = 200;
    private static final long MINUTE_MS = 60_000;
    private static final System.Logger LOG = System.getLogger(Refusals.class.getName());

    private final Path file;
    private final LongSupplier clock;
    private long minute;
    private int lines;
    private long omitted;
    private boolean hasFailed;

    /** With `file` null nothing is recorded; `clock` gives milliseconds since 1970. */
    public Refusals(Path file, LongSupplier clock) {
        this.file = file;
        this.clock = clock;
    }

    @Override
    public Principal createAuthenticatedPrincipal(String user, String password) {
        if (file != null) {
            record(user);
        }
        throw new AccessDeniedException("Invalid credentials");
    }

    private synchronized void record(String user) {
        long now = clock.getAsLong();
        if (now / MINUTE_MS != minute) {
            minute = now / MINUTE_MS;
            lines = 0;
        }
        try {
            if (lines >= LINES_PER_MINUTE || size() >= BYTES_MAX) {
                omitted++;
                return;
            }
            lines++;
            append(line(user, now));
            omitted = 0;
            hasFailed = false;
        } catch (IOException error) {
            omitted++;
            if (!hasFailed) {
                LOG.log(System.Logger.Level.WARNING, "refused sign-ins are not recorded: " + error);
            }
            hasFailed = true;
        }
    }

    private String line(String user, long now) {
        String cut = user.length() > USER_CHARS_MAX ? user.substring(0, USER_CHARS_MAX) : user;
        return "{\"key\":\"" + UUID.randomUUID() + "\",\"time\":\"" + Instant.ofEpochMilli(now)
                + "\",\"user\":\"" + escaped(cut) + "\",\"omitted\":" + omitted + "}\n";
    }

    private long size() throws IOException {
        return Files.exists(file) ? Files.size(file) : 0;
    }

    /** Opens the file for each line, because the reader renames the file before it reads it. */
    private void append(String line) throws IOException {
        try {
            Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        } catch (FileAlreadyExistsException known) {
            // as it should be
        }
        Files.write(file, line.getBytes(StandardCharsets.UTF_8), StandardOpenOption.APPEND);
    }

    private static String escaped(String text) {
        StringBuilder found = new StringBuilder();
        for (char one : text.toCharArray()) {
            // Also half a pair of a character that was cut, which is no UTF-8.
            boolean isPlain = one >= ' ' && one != '"' && one != '\\' && one < 0x7f;
            found.append(isPlain ? String.valueOf(one) : String.format("\\u%04x", (int) one));
        }
        return found.toString();
    }
}
