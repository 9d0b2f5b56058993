/** What can go wrong between an operator and the schedules. docs/errors.md explains each code. */
import { OffsiteError } from '../domain/errors.ts';

export class TemporalUnreachableError extends OffsiteError {
  constructor(address: string, reason: string, options?: ErrorOptions) {
    super(
      'TemporalUnreachable',
      `Temporal does not answer at ${address}: ${reason}`,
      'Check that it runs and that temporal.address in the configuration (or OFFSITE_TEMPORAL_ADDRESS) is right.',
      options,
    );
  }
}

/** TLS to Temporal does not come about: a certificate that one side does not take, or TLS on one side only. */
export class TemporalTlsFailedError extends OffsiteError {
  constructor(address: string, reason: string) {
    super(
      'TemporalTlsFailed',
      `no TLS with Temporal at ${address}: ${reason}`,
      'Check TEMPORAL_TLS and the TEMPORAL_TLS_… variables, or the [profile.….tls] of temporal.toml.',
    );
  }
}

/** Temporal answers, but has no such namespace: another was meant, or its database was lost. */
export class TemporalNamespaceMissingError extends OffsiteError {
  constructor(address: string, namespace: string, options?: ErrorOptions) {
    super(
      'TemporalNamespaceMissing',
      `Temporal at ${address} has no namespace '${namespace}'`,
      `If temporal.namespace is right, 'offsite setup' makes it, or: temporal operator namespace create --namespace ${namespace} --retention 30d.`,
      options,
    );
  }
}

/** Temporal answers, but not to us: no permission. */
export class TemporalRefusedError extends OffsiteError {
  constructor(address: string, reason: string, options?: ErrorOptions) {
    super(
      'TemporalRefused',
      `Temporal at ${address} refuses: ${reason}`,
      "Check the profile's credentials, and that they are good for temporal.namespace.",
      options,
    );
  }
}

export class ScheduleUnknownError extends OffsiteError {
  constructor(replicaSite: string, name: string, addition: string | null = null) {
    super(
      'ScheduleUnknown',
      `there is no schedule '${name}' at site '${replicaSite}'${addition === null ? '' : ` (${addition})`}`,
      "'offsite schedule list' shows those that there are; --site names another replica site.",
    );
  }
}

/** A schedule of this name lives already and is not the one that was asked for. */
export class ScheduleExistsError extends OffsiteError {
  constructor(name: string, difference: string) {
    super(
      'ScheduleExists',
      `schedule '${name}' exists already and differs: ${difference}`,
      'Choose another name, or delete it first.',
    );
  }
}

/** The schedule's workflow ended at its start: another live schedule has its host, or its row. */
export class ScheduleConflictError extends OffsiteError {
  constructor(name: string, reason: string) {
    super(
      'ScheduleConflict',
      `schedule '${name}' was not created: ${reason}`,
      "'offsite schedule list' shows the schedules that live.",
    );
  }
}

/** The schedule's workflow could not be asked, mostly because no worker of its site runs. */
export class WorkerUnreachableError extends OffsiteError {
  constructor(what: string, reason: string) {
    super(
      'WorkerUnreachable',
      `${what}: ${reason}`,
      "Start the replica site's worker: offsite worker --config FILE.",
    );
  }
}

export class RequestRefusedError extends OffsiteError {
  constructor(name: string, request: string, reason: string) {
    super(
      'RequestRefused',
      `schedule '${name}' refused to ${request}: ${reason}`,
      `'offsite schedule show ${name}' tells how it stands.`,
    );
  }
}
