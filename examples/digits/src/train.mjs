#!/usr/bin/env node
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { adamStart, adamStep } from "./adam.mjs";
import { loadCheckpoint, saveCheckpoint } from "./checkpoint.mjs";
import { CLASSES, imageAt, readDigits, splitImages } from "./data.mjs";
import { encodeFloats, writeJsonAtomically } from "./files.mjs";
import {
  ARCHITECTURE,
  PARAMETER_COUNT,
  createNetwork,
  initialParameters,
  likeliest,
} from "./network.mjs";
import { HELP, parseOptions } from "./options.mjs";
import { progressReporter } from "./progress.mjs";
import { shuffledIndexes } from "./random.mjs";

/** @typedef {import("./checkpoint.mjs").TrainingState} TrainingState */
/** @typedef {import("./options.mjs").TrainingOptions} TrainingOptions */
/** @typedef {import("./data.mjs").Images} Images */

const EXIT_USAGE = 2;
const EXIT_CHECKPOINTED = 75;
const EXIT_LOST = 76;

process.exitCode = await main(process.argv.slice(2), process.env);

/**
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} environment
 * @returns {Promise<number>} the exit code
 */
async function main(args, environment) {
  let options;
  try {
    options = parseOptions(args);
  } catch (error) {
    process.stderr.write(`digits: ${/** @type {Error} */ (error).message}\n${HELP}`);
    return EXIT_USAGE;
  }
  if (options === "help") {
    process.stdout.write(HELP);
    return 0;
  }
  const stop = stopSignal();
  const outputDir = environment["FASTGPU_OUTPUT_DIR"] || "out";
  const checkpointDir = environment["FASTGPU_CHECKPOINT_DIR"];
  const { train, test } = splitImages(readDigits());

  announceDevice(environment);
  console.log(
    `${train.count} images to learn from, ${test.count} to test with, ${PARAMETER_COUNT} parameters`,
  );
  const state = startOrResume(options, checkpointDir);
  const finished = await trainEpochs({
    options,
    state,
    train,
    test,
    stop,
    report: progressReporter(environment),
    save: () => {
      if (checkpointDir) saveCheckpoint(checkpointDir, { options, state });
      return Boolean(checkpointDir);
    },
  });
  if (!finished) {
    const where = `in epoch ${state.epoch + 1} of ${options.epochs}, after batch ${state.batch}`;
    console.log(
      `stopped ${where}${checkpointDir ? "; checkpoint written" : "; no checkpoint directory"}`,
    );
    return checkpointDir ? EXIT_CHECKPOINTED : EXIT_LOST;
  }
  writeResults({ options, state, test, outputDir, environment });
  return 0;
}

/** @returns {AbortSignal} aborted by the first SIGTERM or SIGINT */
function stopSignal() {
  const controller = new AbortController();
  for (const name of /** @type {const} */ (["SIGTERM", "SIGINT"])) {
    process.once(name, () => {
      console.log(`${name}: stopping after this batch`);
      controller.abort();
    });
  }
  return controller.signal;
}

/** @param {NodeJS.ProcessEnv} environment */
function announceDevice(environment) {
  if (environment["FASTGPU_GPU_SIMULATED"] === "1") {
    console.log("GPU: simulated. The leased GPU is not real; this training runs on the CPU.");
  } else {
    console.log(
      "GPU: not used. This example runs on the CPU wherever it is; see examples/cuda for GPU code.",
    );
  }
}

/**
 * @param {TrainingOptions} options
 * @param {string | undefined} checkpointDir
 * @returns {TrainingState}
 */
function startOrResume(options, checkpointDir) {
  if (checkpointDir) {
    const loaded = loadCheckpoint(checkpointDir, { options, size: PARAMETER_COUNT });
    if (loaded.kind === "found") {
      const { epoch, batch } = loaded.state;
      console.log(`resumed from the checkpoint: epoch ${epoch + 1}, ${batch} batches into it`);
      return loaded.state;
    }
    if (loaded.kind === "unusable") {
      console.error(`digits: the checkpoint cannot be used (${loaded.why}); starting anew`);
    }
  }
  return {
    epoch: 0,
    batch: 0,
    lossSum: 0,
    correct: 0,
    history: [],
    parameters: initialParameters(options.seed),
    adam: adamStart(PARAMETER_COUNT),
  };
}

/**
 * Trains until all epochs are done or a stop is asked for, which it honours between two batches.
 *
 * @param {{
 *   options: TrainingOptions, state: TrainingState, train: Images, test: Images, stop: AbortSignal,
 *   report: ReturnType<typeof progressReporter>,
 *   save: () => boolean,
 * }} run state is changed in place; save tells whether there is a place for checkpoints
 * @returns {Promise<boolean>} false when stopped before the end
 */
async function trainEpochs({ options, state, train, test, stop, report, save }) {
  const network = createNetwork(state.parameters);
  const batches = Math.ceil(train.count / options.batchSize);
  while (state.epoch < options.epochs) {
    const order = shuffledIndexes(train.count, options.seed + 1 + state.epoch);
    while (state.batch < batches) {
      // Signals are delivered between turns of the event loop only.
      await nextTurn();
      if (stop.aborted) {
        save();
        return false;
      }
      const from = state.batch * options.batchSize;
      const rows = order.subarray(from, from + options.batchSize);
      for (const row of rows) {
        const learned = network.learn(imageAt(train, row), train.labels[row], 1 / rows.length);
        state.lossSum += learned.loss;
        state.correct += learned.correct ? 1 : 0;
      }
      // The rate falls to a tenth over the run (half a cosine), so that the end settles.
      const done = (state.epoch + state.batch / batches) / options.epochs;
      const rate = options.learningRate * (0.55 + 0.45 * Math.cos(Math.PI * done));
      adamStep(state.adam, { parameters: state.parameters, gradients: network.gradients, rate });
      state.batch += 1;
    }
    const progress = finishEpoch({ state, options, train, test, network });
    // Said after the save: who has to stop for others is chosen by what it would lose.
    report(save() ? { ...progress, checkpoint: true } : progress);
  }
  return true;
}

/**
 * @param {{
 *   state: TrainingState, options: TrainingOptions, train: Images, test: Images,
 *   network: ReturnType<typeof createNetwork>,
 * }} run
 * @returns {{step: number, of: number, metrics: Record<string, number>}} what to report of it
 */
function finishEpoch({ state, options, train, test, network }) {
  const epoch = state.epoch + 1;
  const loss = state.lossSum / train.count;
  const trainAccuracy = state.correct / train.count;
  const { accuracy } = evaluate(network, test);
  state.history.push({ epoch, loss, trainAccuracy, accuracy });
  Object.assign(state, { epoch, batch: 0, lossSum: 0, correct: 0 });
  console.log(
    `epoch ${String(epoch).padStart(2)}/${options.epochs}  loss ${loss.toFixed(4)}  test accuracy ${percent(accuracy)}`,
  );
  const metrics = { loss, accuracy, train_accuracy: trainAccuracy };
  return { step: epoch, of: options.epochs, metrics };
}

/**
 * @param {ReturnType<typeof createNetwork>} network
 * @param {Images} images
 * @returns {{accuracy: number, confusion: number[][]}} confusion[truth][answer] counts images
 */
function evaluate(network, images) {
  const confusion = Array.from({ length: CLASSES }, () => Array.from({ length: CLASSES }, () => 0));
  let correct = 0;
  for (let index = 0; index < images.count; index++) {
    const truth = images.labels[index];
    const answer = likeliest(network.predict(imageAt(images, index)));
    confusion[truth][answer] += 1;
    if (answer === truth) correct += 1;
  }
  return { accuracy: correct / images.count, confusion };
}

/**
 * @param {{
 *   options: TrainingOptions, state: TrainingState, test: Images, outputDir: string,
 *   environment: NodeJS.ProcessEnv,
 * }} run
 */
function writeResults({ options, state, test, outputDir, environment }) {
  const { accuracy, confusion } = evaluate(createNetwork(state.parameters), test);
  const last = state.history.at(-1);
  writeJsonAtomically(join(outputDir, "model.json"), {
    format: "fastgpu-example-digits/1",
    input: { side: 8, brightness: "0 to 1, row by row" },
    architecture: ARCHITECTURE,
    parameters: {
      encoding: "base64, float32, little-endian",
      data: encodeFloats(state.parameters),
    },
  });
  writeJsonAtomically(join(outputDir, "metrics.json"), {
    accuracy,
    loss: last?.loss,
    epochs: options.epochs,
    testImages: test.count,
    gpuSimulated: environment["FASTGPU_GPU_SIMULATED"] === "1",
    options,
    history: state.history,
    confusion,
  });
  console.log(`test accuracy ${percent(accuracy)} on ${test.count} images never learned from`);
  console.log(`wrote ${join(outputDir, "model.json")} and ${join(outputDir, "metrics.json")}`);
}

/** @param {number} share */
function percent(share) {
  return `${(100 * share).toFixed(2)} %`;
}
