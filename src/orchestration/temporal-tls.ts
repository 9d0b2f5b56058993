/**
 * Why TLS to Temporal does not come about. The SDK's connections say only that they failed, or nothing at all until
 * their deadline; so after a failure one more handshake is made here, and its error put into words.
 */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { type ConnectionOptions, connect } from 'node:tls';
import { TemporalTlsFailedError } from './errors.ts';
import type { TemporalTarget } from './temporal-connection.ts';

const HANDSHAKE_MS = 3_000;
/** With TLS 1.3 a server refuses a client's certificate only after the client's handshake has ended. */
const REFUSAL_WITHIN_MS = 1_000;

/** @returns null when TLS is not the fault */
export async function tlsFault(target: TemporalTarget): Promise<TemporalTlsFailedError | null> {
  const { tls } = target.connectionOptions;
  const place = placeOf(target.address);
  if (place === null) return null;
  const failed = (reason: string): TemporalTlsFailedError =>
    new TemporalTlsFailedError(target.address, reason);
  if (tls === undefined || tls === null || tls === false) {
    const answer = await handshake({ ...place, rejectUnauthorized: false });
    const speaksTls = answer === 'admitted' || answer === 'closed' || /ALERT/.test(answer ?? '');
    return speaksTls ? failed('it speaks TLS, and the connection is configured without') : null;
  }
  const { serverNameOverride, serverRootCACertificate, clientCertPair } = tls === true ? {} : tls;
  const expired = clientCertPair == null ? null : expiryOf(clientCertPair.crt);
  if (expired !== null) return failed(expired);
  const answer = await handshake({
    ...place,
    ...serverName(serverNameOverride ?? place.host),
    ...(serverRootCACertificate != null && { ca: Buffer.from(serverRootCACertificate) }),
    ...(clientCertPair != null && {
      cert: Buffer.from(clientCertPair.crt),
      key: Buffer.from(clientCertPair.key),
    }),
  });
  const words = wordsOf(answer, clientCertPair != null);
  return words === null ? null : failed(words);
}

function placeOf(address: string): { host: string; port: number } | null {
  const [, host, port] = /^\[?([^\]]+)\]?:(\d+)$/.exec(address) ?? [];
  return host === undefined ? null : { host, port: Number(port) };
}

/** Of an address it is not sent, but the certificate is compared with it all the same. */
const serverName = (host: string): { servername?: string } => (isIP(host) > 0 ? {} : { servername: host });

function expiryOf(certificate: Uint8Array): string | null {
  try {
    const { validTo, validToDate } = new X509Certificate(certificate);
    return validToDate.getTime() < Date.now() ? `our client certificate expired on ${validTo}` : null;
  } catch {
    return 'our client certificate cannot be read: it must be in PEM form';
  }
}

/** @returns `admitted`, `closed` (after the handshake, without a word), or an error's code; null when nothing answered */
function handshake(options: ConnectionOptions): Promise<string | null> {
  return new Promise(resolve => {
    let isShaken = false;
    let timer: NodeJS.Timeout;
    const socket = connectOrNull(options);
    if (socket === null) return resolve('ERR_KEY');
    const end = (answer: string | null): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    timer = setTimeout(() => end(null), HANDSHAKE_MS);
    socket.once('secureConnect', () => {
      isShaken = true;
      clearTimeout(timer);
      timer = setTimeout(() => end('admitted'), REFUSAL_WITHIN_MS);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? null));
    socket.once('close', () => end(isShaken ? 'closed' : null));
    socket.resume();
  });
}

/** A key that does not belong to its certificate throws at once. */
function connectOrNull(options: ConnectionOptions): ReturnType<typeof connect> | null {
  try {
    return connect({ ALPNProtocols: ['h2'], ...options });
  } catch {
    return null;
  }
}

const UNKNOWN_ISSUER =
  "its certificate is signed by no authority that is trusted here (the profile's server_ca_cert)";
const WORDS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet: compare the clocks',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_ISSUER,
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_ISSUER,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_ISSUER,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_ISSUER,
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_ISSUER,
  CERT_SIGNATURE_FAILURE: UNKNOWN_ISSUER,
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name (the profile's server_name)",
  ERR_SSL_WRONG_VERSION_NUMBER: 'it speaks no TLS, and the connection is configured for it',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it speaks no TLS, and the connection is configured for it',
  ERR_KEY: 'our client certificate and its key do not belong together, or cannot be read',
};

function wordsOf(answer: string | null, hasCertificate: boolean): string | null {
  if (answer === null || answer === 'admitted') return null;
  const words = WORDS[answer];
  if (words !== undefined) return words;
  if (answer === 'closed' || /ALERT/.test(answer)) {
    return hasCertificate
      ? `it does not accept our client certificate (${answer})`
      : `it ended the handshake; it may want a client certificate, and none is configured (${answer})`;
  }
  return null;
}
