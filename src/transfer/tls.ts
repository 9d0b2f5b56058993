/** How both ends set up TLS. docs/decisions/0010 says why. */
import { constants } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { fingerprintOf, type NodeIdentity } from './identity.ts';

/**
 * TLS 1.3 with one cipher suite, and both ends show a certificate. No authority signs it: the handshake proves
 * that the peer holds the key, and {@link peerFingerprint} says whose key it is. Nothing may be sent or taken
 * before that was compared.
 */
export const tlsOptions = (identity: NodeIdentity) =>
  ({
    key: identity.keyPem,
    cert: identity.certificatePem,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256',
    requestCert: true,
    rejectUnauthorized: false,
  }) as const;

/** No session is ever resumed: each connection proves anew that its peer holds the key. */
export const SERVER_OPTIONS = { secureOptions: constants.SSL_OP_NO_TICKET } as const;

/** @returns null when the peer showed no certificate */
export function peerFingerprint(socket: TLSSocket): string | null {
  const certificate = socket.getPeerX509Certificate();
  return certificate === undefined ? null : fingerprintOf(certificate.raw);
}
