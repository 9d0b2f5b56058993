/** Where Temporal is, and how its client and its worker reach it. */
import type { ConnectionOptions } from '@temporalio/client';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { OffsiteError } from '../domain/errors.ts';

export interface TemporalSettings {
  readonly address?: string | undefined;
  readonly namespace?: string | undefined;
}

export interface TemporalTarget {
  readonly address: string;
  readonly namespace: string;
  /** For `Connection` and `NativeConnection` alike: address, TLS, key and headers. */
  readonly connectionOptions: Pick<ConnectionOptions, 'address' | 'tls' | 'apiKey' | 'metadata'>;
}

/**
 * An address in the configuration is used as it is, without TLS. Without one, Temporal's own client profile
 * decides (TEMPORAL_* variables, TEMPORAL_PROFILE, its `temporal.toml`): address, TLS, key and namespace.
 * @throws {OffsiteError} `TemporalProfileInvalid`
 */
export function temporalTarget({ address, namespace }: TemporalSettings): TemporalTarget {
  if (address !== undefined) {
    return { address, namespace: namespace ?? 'default', connectionOptions: { address } };
  }
  try {
    const profile = loadClientConnectConfig();
    const { address: profileAddress, tls, apiKey, metadata } = profile.connectionOptions;
    const chosen = profileAddress ?? 'localhost:7233';
    return {
      address: chosen,
      namespace: namespace ?? profile.namespace ?? 'default',
      connectionOptions: {
        address: chosen,
        ...(tls !== undefined && { tls }),
        ...(apiKey !== undefined && { apiKey }),
        ...(metadata !== undefined && { metadata }),
      },
    };
  } catch (error) {
    throw new OffsiteError(
      'TemporalProfileInvalid',
      `Temporal's client profile cannot be used: ${(error as Error).message}`,
      'Mend TEMPORAL_CONFIG_FILE, TEMPORAL_PROFILE and temporal.toml, or set temporal.address.',
      { cause: error },
    );
  }
}
