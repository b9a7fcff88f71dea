/** Of this program, as its reports tell it. */
import sidecarPackage from '../package.json' with { type: 'json' }

export const SIDECAR_VERSION: string = sidecarPackage.version
