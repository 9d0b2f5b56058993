/** What A's own configuration lets out: A decides who may have what, whatever comes through Temporal. */
import type { SourceAccess } from '../activities/source-ports.ts';
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
      'If that node was set up anew, put its fingerprint under source.replicaSites[].fingerprints; otherwise somebody stands between.',
    );
  }
}

export interface ReplicaSiteRule {
  readonly site: string;
  /** Host idents, or `*`. */
  readonly hosts: readonly string[];
  /** `host:port`; undefined allows any endpoint, so that the first one is pinned. */
  readonly endpoints?: readonly string[] | undefined;
  /** Undefined pins the fingerprint seen first. */
  readonly fingerprints?: readonly string[] | undefined;
}

/** Keeps the fingerprint of each replica site's endpoint as it was first seen. */
export interface PinStore {
  /** @returns the pinned fingerprint, which is the given one if none was pinned before */
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
      const endpoint = `${host}:${port}`;
      const rule = ruleOf(replicaSite);
      if (rule === undefined || (rule.endpoints !== undefined && !rule.endpoints.includes(endpoint))) {
        throw new EndpointNotAllowedError(replicaSite, endpoint);
      }
      const accepted = rule.fingerprints ?? [await pins.pinReceiver({ replicaSite, endpoint, fingerprint })];
      if (!accepted.includes(fingerprint)) {
        throw new FingerprintMismatchError(replicaSite, endpoint, fingerprint);
      }
    },
  };
}
