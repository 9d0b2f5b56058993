/** A certificate authority of the test's own, and what it signs. */
import { generate } from 'selfsigned';

export interface KeyPair {
  readonly keyPem: string;
  readonly certificatePem: string;
}

const DAY_MS = 24 * 3600 * 1000;

export async function createAuthority(name: string): Promise<KeyPair> {
  const made = await generate([{ name: 'commonName', value: name }], {
    ...COMMON,
    notAfterDate: new Date(Date.now() + DAY_MS),
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  return { keyPem: made.private, certificatePem: made.cert };
}

/** For `localhost` and 127.0.0.1, as a server and as a client. */
export async function sign(
  authority: KeyPair,
  name: string,
  { expired = false }: { expired?: boolean } = {},
): Promise<KeyPair> {
  const made = await generate([{ name: 'commonName', value: name }], {
    ...COMMON,
    ca: { key: authority.keyPem, cert: authority.certificatePem },
    notBeforeDate: new Date(Date.now() - 2 * DAY_MS),
    notAfterDate: new Date(Date.now() + (expired ? -DAY_MS : DAY_MS)),
    extensions: [
      { name: 'basicConstraints', cA: false },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true, clientAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  });
  return { keyPem: made.private, certificatePem: made.cert };
}

const COMMON = { keyType: 'ec', curve: 'P-256', algorithm: 'sha256' } as const;
