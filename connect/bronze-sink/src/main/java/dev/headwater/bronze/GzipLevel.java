package dev.headwater.bronze;

import java.io.IOException;
import java.io.OutputStream;
import java.util.zip.GZIPOutputStream;

/** Opens gzip streams with a compression level; the JDK's own stream has no argument for it. */
record GzipLevel(int level) {
  GZIPOutputStream open(OutputStream out) throws IOException {
    return new GZIPOutputStream(out, 8192) {
      {
        def.setLevel(level);
      }
    };
  }
}
