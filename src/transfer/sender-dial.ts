/** Opens a data connection and makes sure that the right node is at its other end. */
import { connect } from 'node:tls';
import type { ReceiverOffer } from '../contract/transfer.ts';
import { FrameConnection } from './connection.ts';
import { ConnectionLostError, FingerprintMismatchError } from './errors.ts';
import type { NodeIdentity } from './identity.ts';
import type { SenderLimits } from './limits.ts';
import { peerFingerprint, tlsOptions } from './tls.ts';

/**
 * @returns a connection on which nothing was said yet, its clock that of `performance.now`
 * @throws {ConnectionLostError} when nobody answers in time
 * @throws {FingerprintMismatchError} when the peer's certificate is not the offer's
 */
export async function dial(
  identity: NodeIdentity,
  { host, port, fingerprint }: ReceiverOffer,
  limits: SenderLimits,
  signal: AbortSignal,
): Promise<FrameConnection> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({ ...tlsOptions(identity), host, port });
  const timer = setTimeout(
    () => reject(new ConnectionLostError(`no connection within ${limits.connectMs} ms`)),
    limits.connectMs,
  );
  const onAbort = (): void => reject(signal.reason);
  const onError = (error: Error): void =>
    reject(new ConnectionLostError(`cannot connect: ${error.message || error.name}`, { cause: error }));
  const onClose = (): void => reject(new ConnectionLostError('the connection was closed in its handshake'));
  signal.addEventListener('abort', onAbort, { once: true });
  socket.once('secureConnect', resolve).on('error', onError).once('close', onClose);
  try {
    await promise;
    const found = peerFingerprint(socket);
    if (found !== fingerprint) {
      const who = found === null ? 'no certificate' : `the certificate ${found}`;
      throw new FingerprintMismatchError(`${host}:${port} shows ${who}; ${fingerprint} was expected`);
    }
    return new FrameConnection(socket, limits, () => performance.now());
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    socket.off('close', onClose);
  }
}
