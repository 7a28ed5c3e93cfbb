// gVisor sandboxes inside your own process. sbx.d.ts says what there is; README.md how to use it.
//
// Nothing here waits in the library: what takes time is begun and ends as an event. One queue takes the events of all
// sandboxes, and its doorbell is a socket of the event loop.

export { buildImage } from "./build.js";
export { doctor, logTo } from "./checks.js";
export { FileError, SbxError } from "./errors.js";
export { findImage, Image, importImage, listImages, pruneImages, pullImage, removeImage, tagImage } from "./image.js";
export { checkPolicy } from "./policy.js";
export { Process } from "./program.js";
export { Sandbox } from "./sandbox.js";
export { createVolume, findVolume, listVolumes, removeVolume } from "./volume.js";
export { keepWarm, maxStarts, setMaxStarts, setSpares, spares, warmStats } from "./warm.js";
