/** What A's own configuration lets out: A decides who may have what, whatever comes through Temporal. */
import type { SourceAccess } from '../activities/source-ports.ts';
import { formatEndpoint, parseEndpoint } from '../config/endpoint.ts';
import { OffsiteError } from '../domain/errors.ts';

export class HostNotAllowedError extends OffsiteError {
  constructor(replicaSite: string, host: string) {
    super(
      'HostNotAllowed',
      `site ${replicaSite} may not have host ${host}`,
      `Add the host under source.replicaSites of site ${replicaSite} in this site's configuration.`,
    );
  }
}

export class EndpointNotAllowedError extends OffsiteError {
  constructor(replicaSite: string, endpoint: string) {
    super(
      'EndpointNotAllowed',
      `${endpoint} is not an allowed endpoint of site ${replicaSite}`,
      `Add it under source.replicaSites[].endpoints in this site's configuration if it is right.`,
    );
  }
}

export class FingerprintMismatchError extends OffsiteError {
  constructor(replicaSite: string, endpoint: string, fingerprint: string) {
    super(
      'FingerprintMismatch',
      `the receiver of site ${replicaSite} at ${endpoint} shows the certificate ${fingerprint}, which is not the pinned one`,
      'If that node is new or was set up anew, compare with the fingerprint that its worker prints, then run ' +
        `\`offsite source pin ${replicaSite} FINGERPRINT\` (or put it under source.replicaSites[].fingerprints); otherwise somebody stands between.`,
    );
  }
}

export interface ReplicaSiteRule {
  readonly site: string;
  /** Host idents, or `*`. */
  readonly hosts: readonly string[];
  /** `host:port`; undefined allows any endpoint: what counts is the certificate found there. */
  readonly endpoints?: readonly string[] | undefined;
  /** Undefined pins the fingerprint seen first. */
  readonly fingerprints?: readonly string[] | undefined;
}

/** Keeps the certificates of each replica site: the first one seen, and those that an operator added. */
export interface PinStore {
  /** @returns the given fingerprint if it is pinned now, else one that is */
  pinReceiver(input: { replicaSite: string; endpoint: string; fingerprint: string }): Promise<string>;
}

export function createSourceAccess(rules: readonly ReplicaSiteRule[], pins: PinStore): SourceAccess {
  const ruleOf = (replicaSite: string) => rules.find(rule => rule.site === replicaSite);

  return {
    assertMayHave(replicaSite, host) {
      const hosts = ruleOf(replicaSite)?.hosts ?? [];
      if (!hosts.includes('*') && !hosts.includes(host)) throw new HostNotAllowedError(replicaSite, host);
    },

    async assertReceiver(replicaSite, { host, port, fingerprint }) {
      const endpoint = formatEndpoint({ host, port });
      const rule = ruleOf(replicaSite);
      const allowed = rule?.endpoints?.map(text => formatEndpoint(parseEndpoint(text)));
      if (rule === undefined || (allowed !== undefined && !allowed.includes(endpoint))) {
        throw new EndpointNotAllowedError(replicaSite, endpoint);
      }
      const accepted = rule.fingerprints ?? [await pins.pinReceiver({ replicaSite, endpoint, fingerprint })];
      if (!accepted.includes(fingerprint)) {
        throw new FingerprintMismatchError(replicaSite, endpoint, fingerprint);
      }
    },
  };
}
