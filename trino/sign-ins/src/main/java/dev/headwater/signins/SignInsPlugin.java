package dev.headwater.signins;

import io.trino.spi.Plugin;
import io.trino.spi.security.PasswordAuthenticator;
import io.trino.spi.security.PasswordAuthenticatorFactory;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** Gives Trino the authenticator `headwater-refusals`, which stands behind the one that knows the passwords. */
public final class SignInsPlugin implements Plugin {
    @Override
    public Iterable<PasswordAuthenticatorFactory> getPasswordAuthenticatorFactories() {
        return List.of(new Factory());
    }

    private static final class Factory implements PasswordAuthenticatorFactory {
        @Override
        public String getName() {
            return "headwater-refusals";
        }

        @Override
        public PasswordAuthenticator create(Map<String, String> config) {
            boolean isRecording = Boolean.parseBoolean(config.get("record"));
            return new Refusals(isRecording ? Path.of(config.get("file")) : null, System::currentTimeMillis);
        }
    }
}
