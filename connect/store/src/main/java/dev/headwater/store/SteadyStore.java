package dev.headwater.store;

import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import org.gaul.s3proxy.blobstore.BlobStore;
import org.gaul.s3proxy.blobstore.ForwardingBlobStore;
import org.gaul.s3proxy.blobstore.S3Exceptions;
import org.gaul.s3proxy.blobstore.SdkResponses;
import org.gaul.s3proxy.blobstore.domain.MultipartUpload;
import software.amazon.awssdk.services.s3.model.CompleteMultipartUploadRequest;
import software.amazon.awssdk.services.s3.model.CompleteMultipartUploadResponse;
import software.amazon.awssdk.services.s3.model.CopyObjectRequest;
import software.amazon.awssdk.services.s3.model.CopyObjectResponse;
import software.amazon.awssdk.services.s3.model.HeadObjectResponse;
import software.amazon.awssdk.services.s3.model.ListObjectsV2Request;
import software.amazon.awssdk.services.s3.model.ListObjectsV2Response;
import software.amazon.awssdk.services.s3.model.PutObjectRequest;
import software.amazon.awssdk.services.s3.model.PutObjectResponse;
import software.amazon.awssdk.services.s3.model.S3Object;
import software.amazon.awssdk.services.s3.model.StorageClass;

/**
 * Keeps S3's guarantees while several clients write and delete at once.
 *
 * <ol>
 *   <li>A listing holds only whole objects: none that is being written, and none that was deleted
 *       during the listing.
 *   <li>A put succeeds even if the delete of another object removes the folder, which does not
 *       exist on S3.
 *   <li>Of several puts on the condition of one ETag, one succeeds.
 *   <li>What was answered survives a power cut: the object is on the disk before the answer.
 * </ol>
 */
final class SteadyStore extends ForwardingBlobStore {
  // A repetition is needed only if a delete empties the folder at that moment.
  private static final int TRIES_MAX = 100;
  private static final int LOCKS = 256;

  private final Path root;
  private final Unfinished unfinished;
  private final Object[] conditions = new Object[LOCKS];

  SteadyStore(BlobStore store, Path root) {
    super(store);
    this.root = root.toAbsolutePath().normalize();
    unfinished = new Unfinished(this.root);
    for (int i = 0; i < LOCKS; i++) {
      conditions[i] = new Object();
    }
  }

  @Override
  public ListObjectsV2Response list(ListObjectsV2Request request) {
    ListObjectsV2Response page = delegate().list(request);
    List<S3Object> found = whole(request.bucket(), page);
    String next = page.nextContinuationToken();
    // A client of the first listing version would end at an empty page that is not the last one.
    while (found.isEmpty() && page.commonPrefixes().isEmpty() && next != null) {
      page = delegate().list(request.toBuilder().continuationToken(next).build());
      found = whole(request.bucket(), page);
      next = page.nextContinuationToken();
    }
    return SdkResponses.objectsPage(found, page.commonPrefixes(), next);
  }

  private List<S3Object> whole(String bucket, ListObjectsV2Response page) {
    List<S3Object> found = new ArrayList<>(page.contents().size());
    for (S3Object object : page.contents()) {
      if (unfinished.is(bucket, object.key())) {
        continue;
      }
      if (object.eTag() != null) {
        found.add(object);
        continue;
      }
      // Usually the object was deleted between the reads of its size and of its digest.
      HeadObjectResponse head = delegate().blobMetadataIfPresent(bucket, object.key());
      if (head != null) {
        found.add(
            SdkResponses.objectEntry(
                object.key(),
                head.eTag(),
                head.lastModified(),
                head.contentLength(),
                StorageClass.STANDARD));
      }
    }
    return found;
  }

  @Override
  public PutObjectResponse putBlob(PutObjectRequest request, InputStream payload) {
    var body = new Body(payload);
    Supplier<PutObjectResponse> put =
        () ->
            written(
                request.bucket(),
                request.key(),
                () -> !body.begun,
                () -> delegate().putBlob(request, body));
    if (request.ifMatch() == null) {
      return put.get();
    }
    synchronized (conditions[Math.floorMod(request.key().hashCode(), LOCKS)]) {
      HeadObjectResponse head =
          delegate().blobMetadataIfPresent(request.bucket(), request.key());
      boolean any = request.ifMatch().equals("*");
      if (head == null || !(any || bare(request.ifMatch()).equals(bare(head.eTag())))) {
        throw S3Exceptions.fromStatusCode(412);
      }
      return put.get();
    }
  }

  private static String bare(String eTag) {
    return eTag == null ? "" : eTag.replace("\"", "");
  }

  @Override
  public CopyObjectResponse copyBlob(CopyObjectRequest request) {
    return written(
        request.destinationBucket(),
        request.destinationKey(),
        () -> true,
        () -> delegate().copyBlob(request));
  }

  @Override
  public CompleteMultipartUploadResponse completeMultipartUpload(
      MultipartUpload upload, CompleteMultipartUploadRequest request) {
    return written(
        upload.containerName(),
        upload.blobName(),
        () -> true,
        () -> delegate().completeMultipartUpload(upload, request));
  }

  /** Writes an object; retries if its folder is deleted before the first byte is written. */
  private <T> T written(String bucket, String key, BooleanSupplier repeatable, Supplier<T> write) {
    unfinished.begun(bucket, key);
    try {
      for (int tries = 1; ; tries++) {
        try {
          T answer = write.get();
          flush(bucket, key);
          return answer;
        } catch (RuntimeException failed) {
          boolean folder = failed.getCause() instanceof NoSuchFileException;
          if (!folder || !repeatable.getAsBoolean() || tries == TRIES_MAX) {
            throw failed;
          }
        }
      }
    } finally {
      unfinished.ended(bucket, key);
    }
  }

  /**
   * Waits until an object's bytes, its attributes and its name are on the disk.
   *
   * <p>Otherwise a filesystem may know its name, but have no bytes of it, for half a minute.
   */
  private void flush(String bucket, String key) {
    try {
      Path file = root.resolve(bucket).resolve(key);
      force(file);
      force(file.getParent());
    } catch (NoSuchFileException gone) {
      // Deleted by another client since.
    } catch (IOException failed) {
      throw new UncheckedIOException(failed);
    }
  }

  private static void force(Path path) throws IOException {
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      channel.force(true);
    }
  }

  /** A body that knows whether anything was read of it. */
  private static final class Body extends FilterInputStream {
    private boolean begun;

    Body(InputStream from) {
      super(from);
    }

    @Override
    public int read() throws IOException {
      begun = true;
      return super.read();
    }

    @Override
    public int read(byte[] into, int offset, int length) throws IOException {
      begun = true;
      return super.read(into, offset, length);
    }

    @Override
    public void close() {
      // The caller closes the stream, because a repeated put still needs it.
    }
  }
}
