package dev.headwater.store;

import java.io.IOException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import org.gaul.s3proxy.blobstore.BlobStore;
import org.gaul.s3proxy.blobstore.ForwardingBlobStore;
import org.gaul.s3proxy.blobstore.SdkResponses;
import software.amazon.awssdk.services.s3.model.HeadObjectResponse;
import software.amazon.awssdk.services.s3.model.ListObjectsV2Request;
import software.amazon.awssdk.services.s3.model.ListObjectsV2Response;
import software.amazon.awssdk.services.s3.model.S3Object;
import software.amazon.awssdk.services.s3.model.StorageClass;

/**
 * Answers a listing of a folder's tail (the keys after a given key) by reading only the tail.
 *
 * <p>The underlying store first reads the attributes of every file of the folder, five system calls
 * each, and drops entries that were not asked for at the end. Every commit to a Delta table asks
 * for the tail of its log, whose folder holds hundreds of entries: that took more CPU than the rest
 * of the store. Here only names are read, and the attributes of the entries in the answer. Requests
 * other than a plain tail of one folder go unchanged to the underlying store.
 */
final class TailListing extends ForwardingBlobStore {
  private final Path root;

  TailListing(BlobStore store, Path root) {
    super(store);
    this.root = root.toAbsolutePath().normalize();
  }

  @Override
  public ListObjectsV2Response list(ListObjectsV2Request request) {
    TreeSet<String> keys = tail(request);
    if (keys == null) {
      return delegate().list(request);
    }
    List<S3Object> found = new ArrayList<>(keys.size());
    for (String key : keys) {
      HeadObjectResponse head = delegate().blobMetadataIfPresent(request.bucket(), key);
      if (head != null) { // else it was deleted after its name was read
        found.add(
            SdkResponses.objectEntry(
                key, head.eTag(), head.lastModified(), head.contentLength(), StorageClass.STANDARD));
      }
    }
    return SdkResponses.objectsPage(found, List.of(), null);
  }

  /** The keys that answer the request, in order; null if the underlying store has to answer. */
  private TreeSet<String> tail(ListObjectsV2Request request) {
    String after =
        request.continuationToken() != null ? request.continuationToken() : request.startAfter();
    String prefix = request.prefix();
    if (after == null || prefix == null) {
      return null;
    }
    String folder = prefix.substring(0, prefix.lastIndexOf('/') + 1);
    if (folder.isEmpty() || !folder.equals(after.substring(0, after.lastIndexOf('/') + 1))) {
      return null;
    }
    Path place = place(request.bucket(), folder);
    int most = request.maxKeys() == null ? 1000 : request.maxKeys();
    TreeSet<String> keys = new TreeSet<>(); // like S3's order by UTF-8, except beyond the BMP
    if (place == null || !names(place, folder, prefix, after, keys) || keys.size() > most) {
      return null;
    }
    for (String key : keys) {
      if (Files.isDirectory(place.resolve(key.substring(folder.length())))) {
        return null; // the request may include the folder's content
      }
    }
    return keys;
  }

  /** The folder's path on the disk; null if it is not plainly below the bucket. */
  private Path place(String bucket, String folder) {
    try {
      Path container = root.resolve(bucket);
      Path place = container.resolve(folder);
      boolean plain = place.equals(place.normalize()) && place.startsWith(container);
      return plain && container.getParent().equals(root) ? place : null;
    } catch (InvalidPathException notAName) {
      return null;
    }
  }

  /** Collects the keys of the folder's entries; false if an entry needs a closer look. */
  private static boolean names(
      Path place, String folder, String prefix, String after, TreeSet<String> keys) {
    try (var entries = Files.newDirectoryStream(place)) {
      for (Path entry : entries) {
        String name = entry.getFileName().toString();
        String key = folder + name;
        if (!key.startsWith(prefix)) {
          continue;
        }
        if (key.compareTo(after) > 0) {
          if (name.startsWith(".")) {
            return false; // the store keeps its own files under such names
          }
          keys.add(key);
        } else if (!key.equals(after) && after.startsWith(key)) {
          return false; // if it is a folder, its content could come after the key
        }
      }
      return true;
    } catch (IOException | DirectoryIteratorException notListed) {
      return false;
    }
  }
}
