import { FormatError } from '../lib/durations.ts';

export interface Endpoint {
  /** A name or address; IPv6 without its brackets. */
  readonly host: string;
  /** 0 to 65535. */
  readonly port: number;
}

/**
 * Reads `host:port`, with IPv6 as `[::1]:7070`.
 * @throws {FormatError} with the reason
 */
export function parseEndpoint(text: string): Endpoint {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (match === null || host === undefined) {
    throw new FormatError(`'${text}' is no address: write it like 10.0.0.2:7070 or backup.example.org:7070`);
  }
  const port = Number(match[3]);
  if (port > 65535) throw new FormatError(`'${text}' has a port above 65535`);
  return { host, port };
}

/** One spelling for each endpoint: small letters, IPv6 in brackets. */
export function formatEndpoint({ host, port }: Endpoint): string {
  const name = host.toLowerCase();
  return name.includes(':') ? `[${name}]:${port}` : `${name}:${port}`;
}
