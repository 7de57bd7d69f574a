"""The one table of warnings: every code that a warning may carry, what it means, and what to do about it.

A code is stable: recipes let some pass by it (`allow: [code, ...]` beside `strict: true`), and programs look for it.

To add one: 1. yield ``PlanWarning("my-code", where, text)`` wherever the plan or the run finds it; 2. add a row here,
in alphabetical order. That is all: `transferpipe help warnings`, `allow`, its "did you mean" and the tests read this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class WarningKind:
    """One kind of warning.

    Attributes:
        means: what is allowed here and probably not intended, in a sentence or two.
        example: a warning of this kind as it is shown, without its code.
        fix: what to do if it is a mistake, or how to see that it is none.
    """

    means: str
    example: str
    fix: str


WARNINGS: Mapping[str, WarningKind] = MappingProxyType(
    {
        "already-equal": WarningKind(
            "Every assigned kernel of the target had the value of its source before the transfer: nothing changed.",
            "source: the target already equals its source: all 13 assigned kernels had these values before",
            "Check that the source is the file that was meant, and whether the builder of the target loads weights "
            "by "
            "itself (`weights: null` keeps keras.applications from it).",
        ),
        "assumed": WarningKind(
            "A file leaves something open that its values depend on, and the usual was taken: the lora_alpha of "
            "a layer with LoRA in a legacy `.h5` file that does not record it, or the order of the gates where a cell "
            "that somebody wrote in torch has all of them in one Linear.",
            "m.h5: the file does not record the lora_alpha of d/kernel: the LoRA factors were merged with lora_alpha "
            "equal to the rank, which is Keras's default",
            "Nothing, if the default was used. Otherwise load the model in Keras and save it as `.keras`, or take the "
            "gates one by one: `split` and `concat`.",
        ),
        "auto-names": WarningKind(
            "A rule names layers of a model that is built by numbers that Keras counted up (dense_1). They change with "
            "the order of building, so tomorrow's `dense_1` may be another layer. Names in files stay as they are. "
            "Where both models have the same such names at the same places, names and order agree: no warning.",
            "mapping.norm: relies on auto-generated names such as dense_7, which change with build order: name the "
            "layers where the model is built",
            "Give the layers names of your own in the builder. `pair: order` does without names; the warning offers it "
            "where it pairs the same layers.",
        ),
        "averages-reset": WarningKind(
            "An optimizer with `use_ema` writes its moving averages over the weights at the end of the next fit. Those "
            "of the old values would bring them back, so they start anew from the values that were transferred.",
            "the optimizer: the optimizer's moving averages of 2 weights, the first d/kernel, start anew from the new "
            "values",
            "Nothing, if the transferred weights are what training goes on from.",
        ),
        "baked-variables": WarningKind(
            "A model computes with variables that it does not hold: a layer was called on plain numbers while the "
            "model was built, or a variable was handed to an operation or to the function of a Lambda. Keras "
            "saves no such variable and no rule reaches it, so it stays as it was drawn.",
            "target: the model computes with variables that it does not hold: places/embeddings (8, 4)",
            "Call the layer on a tensor of the model (positions by keras.ops.cumsum of keras.ops.ones_like of the "
            "input), or inside the call of a layer that holds it.",
        ),
        "between-differs": WarningKind(
            "Between two layers that take their weights from paired layers, the target differs from the source: "
            "another pooling, another padding, a Rescaling more or less.",
            "mapping.all: 1 layer (source -> target): fc: before it MaxPooling2D pool -> AveragePooling2D pool",
            "Build the target with the layers that the source has there.",
        ),
        "cast-error": WarningKind(
            "A cast to the target's dtype changes numbers that count (at least a hundredth of the weight's root "
            "mean square) by 10 % or more. Smaller ones may be lost without harm; `largest_relative_error` in "
            "manifest.json counts them too. A cast that loses the weight, such as a float kernel in int8, is "
            "refused.",
            "mapping.k: the cast of fc/kernel from float32 to int8 changes values by 33% of a number: 1.5 becomes 1",
            "Give the target weight a wider dtype and leave out the cast. For a quantized model, transfer into a "
            "model in float32 and add `quantize: int8` to the recipe.",
        ),
        "class-differs": WarningKind(
            "A layer takes its weights from one of another class, which computes something else from them.",
            "mapping.all: 1 layer (source -> target): x: class Conv2DTranspose -> Conv2D",
            "Build the target's layer of the source's class.",
        ),
        "compile-needed": WarningKind(
            "Keras on JAX keeps the optimizer's state by the list of weights that trained at the last fit. Freezing "
            "changes "
            "that list, and the next fit would fail.",
            "freeze: the optimizer of model was built for other trainable weights, and Keras on JAX refuses to go on",
            "Call model.compile(...) again before the next fit. The optimizer's state starts anew.",
        ),
        "computed-weight": WarningKind(
            "An ONNX graph computes something of a weight before a layer takes it (a factor, a norm, a rounding), and "
            "the target's layer takes the weight as it is stored.",
            "mapping.fc: fc/kernel takes fc/weight as it is stored, and the graph computes Mul(fc.weight, gain) of it "
            "first: add the steps that do the same to the rule",
            "Add the steps to the rule: `transform: {kernel: [{scale: 0.5}]}` for a factor, `weight_norm` with both "
            "parts under `from` for a norm. Or export the model with constant folding, which stores what is computed.",
        ),
        "connected-otherwise": WarningKind(
            "Both sides tell what feeds what, and a paired layer takes its input from somewhere else, takes its "
            "inputs in another order, is called more often on one side, or gets something else that is computed of "
            "the same layers, which shows with numbers drawn for the purpose.",
            "mapping.all: d2 takes d1 in the source, d0 in the target",
            "Connect the target's layers as the source's are, or pair the layers that are in the same place.",
        ),
        "constant-kernel": WarningKind(
            "A kernel or a table of embeddings holds one number in all its places, mostly 0. Training never ends "
            "there: the file is damaged, or the layer was never trained (zero-initialised layers, LoRA's second "
            "factor).",
            "mapping.all: block2/conv1/kernel gets only zeros, from block2/conv1/kernel",
            "Look at the weight in the source with `transferpipe inspect FILE --stats`, and fetch the file again "
            "if it is not meant. To give a weight a constant on purpose, use the transform `{fill: 0}`, which is "
            "not warned of.",
        ),
        "crossed-branches": WarningKind(
            "Layers of equal shapes are exchanged, judged by how they are connected: what comes before or behind a "
            "target layer goes to another branch of the source (the shortcut of a residual block instead of its main "
            "path), or its sibling does (a convolution takes `downsample/0`, and its normalization `bn2`).",
            "mapping.n: by order, sc_n takes bn2, n1 takes down/1: the layers connected to them pair them the other "
            "way round, and the shapes agree. If this is not intended, pair these layers by name: sc_n from down/1, n1 "
            "from bn2",
            "Exchange the sources of these layers as the warning says, in explicit rules (`to`, `from`). If the "
            "networks really differ there, `allow` the code.",
        ),
        "crossed-places": WarningKind(
            "A `.weights.h5` of Keras before 3.8 notes no names of layers, only classes and numbers, by which Keras "
            "loads them. A rule takes a layer whose number is the target's name, and which Keras would load "
            "elsewhere.",
            "mapping.all: old.weights.h5 notes no names of layers, and dense_1/kernel is only called so by class and "
            "number: Keras would load dense/kernel into dense_1/kernel; pair these layers with `pair: order`, or write "
            "`from`",
            "Pair the layers by order, or write which layer of the file is meant.",
        ),
        "duplicate-weights": WarningKind(
            "Two layers of the source hold the same values to the last bit, though they lie in different places. "
            "Training never leads there: one was written over the other. Tied embeddings, tensors that share "
            "their place in the file and networks that are held twice are not counted.",
            "mapping.all: conv1 and conv3 hold the same values, bit for bit (kernel, bias)",
            "Compare the layers in the original. If they are tied on purpose, `allow: [duplicate-weights]`.",
        ),
        "epsilon": WarningKind(
            "A normalization layer divides by the root of variance plus epsilon. Files of torch hold no epsilon, and "
            "the target has the default of Keras (0.001), which is not that of torch (1e-05).",
            "target: bn1: epsilon is 0.001, Keras's default, and torch's default is 1e-05",
            "Look up epsilon (eps) in the configuration of the original. If it is 1e-05, build the target's layer with "
            "BatchNormalization(epsilon=1e-5).",
        ),
        "except-nothing": WarningKind(
            "A pattern under `except` matches no name of the target, so the rule claims what it would claim without "
            "it.",
            "mapping.conv: `except: enc/conv9` matches nothing, so it takes nothing out",
            "Correct the pattern, or remove it. `transferpipe inspect FILE` lists the names.",
        ),
        "flatten-order": WarningKind(
            "A Dense layer follows a Flatten of a feature map. torch flattens (channels, height, width), Keras "
            "(height, "
            "width, channels): the rows of the kernel stand in another order. So do the columns of a Dense whose "
            "output is reshaped to a map.",
            "mapping.fc: fc1 follows a Flatten of a map (7, 7, 64), which torch flattens in another order",
            "Give the rule the transform that the warning names: transform: {kernel: [{flatten_order: [C, H, W]}]}.",
        ),
        "freeze-not-saved": WarningKind(
            "The plan freezes layers, and a file that is saved does not hold that: a file of weights alone, or a layer "
            "whose flag Keras does not write.",
            "save: model.weights.h5 holds weights only, not which layers are frozen",
            "Save a .keras file too (save.also=[model.keras]), or set `trainable = False` again after loading.",
        ),
        "frozen-divided": WarningKind(
            "A frozen SpectralNormalization divides the kernel in it by its largest singular value in every training "
            "step: Keras assigns to it whatever the flags are.",
            "freeze: sn is frozen, and SpectralNormalization divides the kernel in every training step all the same",
            "Build the target without the wrapper, whose kernel the layer takes (`from: sn/fc`), or allow it.",
        ),
        "frozen-fresh": WarningKind(
            "A frozen layer got nothing from a source: it keeps random initial values that training will never change.",
            "freeze: head/kernel is frozen and keeps its initial value: training will never change it",
            "Take the layer out of `freeze`, or add a rule that transfers its weights. `freeze: [transferred]` freezes "
            "only layers all of whose weights came from a source.",
        ),
        "gate-order": WarningKind(
            "A GRU takes weights that are named as torch names them, outside of torch's layout. torch.nn.GRU has its "
            "gates in another order than Keras (reset, update, new; update, reset, candidate), which no shape shows.",
            "mapping.k: g/cell/kernel of a GRU takes g/weight_ih_l0, named as in torch, with its gates in torch's "
            "order: set `layout: torch`, which puts them in Keras's",
            "Set `layout: torch` in `source`, and pair the layers.",
        ),
        "half-affine": WarningKind(
            "A normalization layer has a scale without an offset, or the reverse. torch's layers have both or neither, "
            "so the file cannot be loaded into one strictly.",
            "save.layout: bn1: torch's has weight and bias, or neither; what lacks is not written",
            "Load the file with strict=False in torch; its layer's initial values are those of the missing weight.",
        ),
        "half-transferred": WarningKind(
            "One weight of a layer was transferred and another of the same layer was kept because its shape differs "
            "(`on_mismatch: keep`), or, under `reverse=true`, because the model has none like it. The two were never "
            "trained together.",
            "mapping.head: head/kernel is transferred, but head/bias of the same layer is kept",
            "Keep the whole layer (`from: null`), or bring the other weight into shape with a transform. Under "
            "`reverse=true`, build the model with a layer that has both.",
        ),
        "kept-between": WarningKind(
            "A layer that no rule mentions keeps its initial values, and layers before and behind it are transferred: "
            "what comes out of it means nothing to those behind it.",
            "unmatched: 1 layer keeps its initial values between layers that are transferred: block3/conv",
            "Write a rule that transfers it, or, if it is meant to be new, a rule with `from: null`.",
        ),
        "layer-count": WarningKind(
            "The target has the layers of a file in another number (`target.repeat`), and a config.json beside it "
            "says the old one. It is not written: only the weights are.",
            "target.repeat: config.json beside base.safetensors says num_hidden_layers=32, and what is written has 48 "
            "layers: give the config.json that goes with the result num_hidden_layers=48",
            "Copy the config.json beside the result, with the new number in it.",
        ),
        "loads-otherwise": WarningKind(
            "A layer of a source file is of a class with load hooks of its own, and a layer of another class takes its "
            "weights: what the file holds, and not what Keras has after loading it.",
            "source: Keras loads another value than s.keras holds of own/0, by the load hook of their_layers.Own: the "
            "file's is taken",
            "To take what Keras has, load the model in Python and transfer from it, or name its builder as the source. "
            "Vouch for the module of the class with `--trust` to have both compared.",
        ),
        "momentum-differs": WarningKind(
            "The momentum of a BatchNormalization that will train differs from the source's: its statistics will "
            "follow the batches at another pace. Until it trains it computes the same.",
            "mapping.all: 2 layers (source -> target): 2 layers (bn1, bn2): momentum 0.99 -> 0.9",
            "Build the target with the source's momentum if training should go on as it went there.",
        ),
        "names-disagree": WarningKind(
            "Layers of equal shapes are exchanged, judged by their names: each takes the source of another's namesake, "
            "where the name, a part of it (query, forward_layer) or its number counts. Under `pair: order` also: a "
            "weight takes one of another name.",
            "mapping.x, mapping.y: a takes b, b takes a: their names pair them the other way round, and the shapes "
            "agree. If this is not intended, exchange them: a from a, b from b",
            "Exchange the sources of these layers as the warning says; instead of `pair: order` write rules by name "
            "(`to`, `from`). If it is meant, `allow` the code.",
        ),
        "no-layout": WarningKind(
            "The layout under `save` does not know a layer, so its weights are written with the names and axes of "
            "Keras.",
            "save.layout: torch's layout knows no such layer, so names and axes stay Keras's: mixing/kernel",
            "Rename and transpose these weights where the file is loaded, or save without `layout`.",
        ),
        "not-loaded": WarningKind(
            "The model has layers with load hooks of their own, or a variable in several places, so that Keras need "
            "not have what the file holds. Loading it to compare failed because of the user's own classes, or they are "
            "those of a file, which are not imported without being asked for.",
            "model.keras: cannot be compared with what Keras loads: TypeError: Could not locate class 'Own'",
            "Give the classes a get_config and register them, so that load_model can make them again. Where the target "
            "is a file, vouch for their module with `--trust`.",
        ),
        "not-recorded": WarningKind(
            "The class that the recipe builds leaves an argument out of its configuration, so that load_model builds "
            "another model of the saved file: it may refuse the weights, or compute something else with them.",
            "save: Llama3Backbone does not record tie_word_embeddings in its configuration, so that load_model builds "
            "another model of model.keras; load it with Llama3Backbone(...).load_weights('model.keras')",
            "Call the class with the same arguments, and the model's load_weights with the file; or let get_config "
            "return the argument, where the class is yours.",
        ),
        "not-reloaded": WarningKind(
            "`verify.reload` asks to load the result with Keras, and no file that is saved is a model.",
            "verify.reload: does nothing here: model.npz hold weights, and no model that could be loaded",
            "Save a .keras file too (save.also=[model.keras]), or leave `verify.reload` out.",
        ),
        "nothing-trainable": WarningKind(
            "No parameter of the result is trainable, seen from the root of the model: training would change nothing.",
            "freeze: no parameter of the result is trainable",
            "Freeze fewer layers. A frozen model or parent freezes everything in it, whatever the layers say.",
        ),
        "nothing-transferred": WarningKind(
            "The recipe has a source, and no weight of the target takes a value from it.",
            "mapping: nothing is transferred: none of the source weights (12) is used",
            "Add a rule that has a `from`, or leave the source out. For a baseline without transfer it is as it must "
            "be.",
        ),
        "numbered-weights": WarningKind(
            "The file numbers the weights of a layer, so they are paired by their position. Two of them have one "
            "shape, and the class is your own, or may lack one of them (a normalization gamma, or beta), so that "
            "nothing shows whether that is right.",
            "blocks/mix: weight names of blocks/mix are not stored in encoder.keras; matched by position",
            "Make sure that both sides create the weights of this layer in one order (`add_weight` in `build`), or "
            "lack the same one (`scale`, `center`); a .keras file says which.",
        ),
        "one-variable": WarningKind(
            "Two names of the target are one variable: tied layers, or a wrapper and the layer in it. A rule keeps it "
            "by one name, and another rule gives it a value by the other.",
            "mapping.out: out/kernel is the same variable as enc/kernel, which takes enc/kernel: it is not kept",
            "Take the name out of the rule that keeps it, with `except`, if the value is right.",
        ),
        "optimizer-not-saved": WarningKind(
            "`optimizer: transfer` brings a number that Keras leaves out of the file: a Nadam inside a "
            "LossScaleOptimizer keeps a product of momenta that is not among its variables. A live model gets it; "
            "Keras loads a saved one without it, as it does from the file of the original, and its next steps differ. "
            "Or a MultiOptimizer chooses by paths that Keras changes on loading (`net/d/kernel` is then `d/kernel`).",
            "optimizer: Keras does not save the u_product of its Nadam here: a saved model goes on training with other "
            "steps than the source; after loading, call model.optimizer.inner_optimizer._u_product.assign(0.107)",
            "Call what the warning names after loading the model, or write the key of the map as the warning does.",
        ),
        "other-role": WarningKind(
            "A weight takes its value from one with a different role: gamma from beta, a mean from a variance, the "
            "input's bias of a GRU from that of its state. The shapes are equal, the meaning is not.",
            "mapping.norm: bn/gamma takes bn/beta: gamma from beta",
            "Pair the layers as wholes (`to: bn`, `from: bn`), so that their weights go by name; list a GRU's biases "
            "with that of the input first.",
        ),
        "other-vocabulary": WarningKind(
            "Rows of an embedding belong to words by their number. The target looks words up in another vocabulary "
            "than "
            "the source did, so words get the vectors of other words.",
            "mapping.words: the rows of embed/embeddings follow the vocabulary of source, the target has another",
            "Build the target with the vocabulary of the source, or train the embedding anew (`from: null`).",
        ),
        "outlier-spread": WarningKind(
            "The values of a kernel spread a hundred times as wide as those of the median kernel of its kind, for "
            "their number of inputs, or those of this one kernel a thousand times less wide: it may be in other units, "
            "scaled twice, or damaged.",
            "mapping.all: the values of conv2/kernel spread 1,000 times as wide as those of its siblings",
            "Look at the weight in the source with `transferpipe inspect FILE --stats`. A factor is taken out by "
            "the transform `{scale: 0.001}`.",
        ),
        "outlier-value": WarningKind(
            "One value of a weight is more than a million times as large as its median, and larger than a "
            "million: most likely a bit flipped, in the file or on its way.",
            "mapping.all: conv2/kernel holds 1.2e+37, where its values are usually about 0.034",
            "Fetch the file again, and compare its SHA-256 with the publisher's. An edit sets a single value.",
        ),
        "parity-inconclusive": WarningKind(
            "The recipe asks for `verify.parity`, and comparing the outputs did not show whether they are equal.",
            "verify.parity: the function was not verified: the model refuses random inputs (ValueError: ...)",
            "Give inputs that the model accepts: verify: {parity: {source: true, inputs: x.npz}}.",
        ),
        "reload-computed": WarningKind(
            "After loading the result with Keras, all weights were compared but those that layers compute on saving.",
            "model.keras: after loading it, all weights were compared but 2 values that layers compute on saving",
            "Nothing to fix; verify.parity compares what the model computes.",
        ),
        "reload-forward": WarningKind(
            "The result was loaded with Keras and its weights are right, but it could not be run on random inputs.",
            "model.keras: forward pass not checked: the model declares no inputs",
            "Run the model on an input of your own.",
        ),
        "reset-after": WarningKind(
            "The target has a GRU with reset_after=False, and the source is one of torch, which resets after.",
            "mapping.rnn: gru/recurrent_kernel is that of a GRU with reset_after=False",
            "Build the target's GRU with reset_after=True, which is the default of Keras.",
        ),
        "reset-statistics": WarningKind(
            "A BatchNormalization gets the statistics that it has when it is built (mean 0, variance 1), while "
            "others of the same transfer are trained: its statistics were lost, or the layer never ran in "
            "training. Or a Normalization that was adapted gets those of one that never was.",
            "mapping.all: bn2 gets mean 0 and variance 1 from bn2, the initial values, while others are trained",
            "Take the statistics from a checkpoint that has them, or run the finished model on data in training mode. "
            "`state: keep` leaves a Normalization as the target has it.",
        ),
        "reversed-axes": WarningKind(
            "A rule reverses all axes of a convolution kernel. That moves the channels to where Keras has them, and "
            "turns each filter about: its shape shows it only where height and width differ.",
            "mapping.c: c1/kernel: {transpose: [3, 2, 1, 0]} exchanges height and width of every filter as well",
            "From (out, in, height, width), as torch has it, write {transpose: [2, 3, 1, 0]}. Reversing is right for "
            "files that were written column by column.",
        ),
        "row-order": WarningKind(
            "A file has the rows of a weight in another order than its model: llama.cpp's converter interleaves "
            "the two halves of every head of query and key for its rotary embedding; transformers and KerasHub do not.",
            "mapping.query: the rows of blk/0/attn_q/weight are interleaved for the rotary embedding of llama, in each "
            "of the 32 heads: the even rows have to come first, then the odd ones",
            "Take the weights from the safetensors that the file was made of, or put the rows back. Of H heads of D "
            "rows and N columns: `transform: [{reshape: [H, D/2, 2, N]}, {transpose: [0, 2, 1, 3]}, {reshape: [H*D, "
            "N]}]`; where the layout has turned the kernel into (N, H*D): `[{reshape: [N, H, D/2, 2]}, {transpose: [0, "
            "1, 3, 2]}, {reshape: [N, H*D]}]`.",
        ),
        "same-padding": WarningKind(
            "A convolution or pooling layer with a stride and padding='same' pads some inputs more at the end than at "
            "the beginning. torch adds one number on both sides, so no layer of torch computes the same.",
            "mapping.conv: conv1: strided with padding='same', which pads an input of (224, 224) unevenly",
            "Build the target with the padding of the original, as the warning says: ZeroPadding2D before the layer, "
            "and padding='valid'.",
        ),
        "settings-differ": WarningKind(
            "A layer has other settings than the one that it takes its weights from (activation, strides, padding, "
            "epsilon, ...), so it computes something else from the same weights.",
            "mapping.all: 1 layer (source -> target): conv: activation relu -> linear, strides (1, 1) -> (2, 2)",
            "Build the target's layer with the source's value, which stands before the arrow.",
        ),
        "square-axes": WarningKind(
            "A square matrix of a PyTorch file stands beside matrices whose bias is as long as their second axis: they "
            "are (in, out), as GPT-2's Conv1D keeps them, and the square one may be either.",
            "mapping.proj: h/0/c_proj/weight (8, 8) is square and taken as (in, out)",
            "Look up the class of the module in the original. `layout: torch` in the rule says (out, in), "
            "`layout: keras` (in, out); both end the warning.",
        ),
        "square-kernel": WarningKind(
            "Both axes of a kernel are equally long, so its shape fits transposed as well as straight, and its name "
            "in the source does not show which. So it is with the scale of a normalization over whole maps, all of "
            "whose axes are equally long.",
            "mapping.fc: fc/kernel (64, 64) is square: its shape does not show whether fc/weight has to be transposed",
            "If the source is torch's, set `layout: torch` in `source`: it transposes what is needed, and the warning "
            "ends. "
            "Otherwise compare one output with the original's.",
        ),
        "state-not-saved": WarningKind(
            "A rule brings the vocabulary, or the boundaries, of a lookup layer, and all that is saved holds weights "
            "alone.",
            "save: m.weights.h5 holds weights only, not the vocabulary that words takes from words; save a .keras file "
            "too",
            "Save a `.keras` file too (`save.also`), or leave the state as it is: `state: keep`.",
        ),
        "state-unread": WarningKind(
            "A rule pairs two lookup layers, and what the source's learned does not lie in its file: it is read from "
            "another file when the layer is built, or the format does not keep it.",
            "mapping.words: the vocabulary of words cannot be read from encoder.h5; words keeps its own",
            "Save the source as .keras and take that, or keep the target's: `state: keep`.",
        ),
        "unpinned": WarningKind(
            "A source is fetched from an address whose content may change.",
            "source.path: hf://org/repo/model.safetensors is not pinned: name a commit",
            "Pin it as the warning says: `sha256:` beside `path:` refuses any other content.",
        ),
        "unreadable": WarningKind(
            "A source holds weights of a kind that nothing here reads: numbers of less than a byte, quantised or "
            "sparse tensors, constants inside of a graph. No rule asks for them.",
            "source: a weight of m.onnx cannot be read: fc/weight; fc/weight is int4, which NumPy does not have",
            "Save the file again as the warning says, or name what is not wanted under `ignore`.",
        ),
        "untrained-source": WarningKind(
            "All biases and statistics that were taken from the source still have their initial values, which training "
            "would have moved.",
            "source: looks untrained: all 5 biases and statistics taken from it still have their initial values",
            "Check that the source is the trained model, and not the one before training.",
        ),
        "unused": WarningKind(
            "Weights of the source were used by no rule, and `ignore` does not expect them to stay unused. Layers that "
            "both sides have and that `unmatched: keep` leaves alone as wholes do not count.",
            "unused: 2 source weights are not used: score/{kernel,bias}",
            "Add a rule for them, or list them under `ignore` if they are not needed.",
        ),
        "upgraded": WarningKind(
            "A model of an older Keras was built anew, and a layer of it may compute something else: it has an "
            "argument that is not known, or did what early versions did otherwise.",
            "old.h5: up1: bilinear UpSampling2D places pixels half a pixel otherwise than it did",
            "Compare what both models compute where the old one runs: verify.parity with its inputs and outputs.",
        ),
        "variable-flag": WarningKind(
            "A variable was switched off by its own flag (`variable.trainable = False`), which no file keeps.",
            "target: head/kernel is frozen by its variable's own flag, which no file stores",
            "Freeze the layer that holds it: freeze: [head].",
        ),
        "vocabulary-size": WarningKind(
            "A lookup layer takes a vocabulary or boundaries that give more numbers than the Embedding behind it has "
            "rows.",
            "mapping.words: words gives numbers up to 6 with the vocabulary of words (7 in all), and the Embedding e "
            "that it feeds has input_dim 5",
            "Build the target with an `input_dim` of at least as many, or leave the state as it is: `state: keep`.",
        ),
        "zeros-at-end": WarningKind(
            "A quarter or more of a kernel, counted from its end, is exactly zero, and the rest is not: the file "
            "was cut short and filled up, or not all of it was ever written.",
            "mapping.all: the last 1,152 of the 2,304 values of conv2/kernel are zero: was the file cut short?",
            "Fetch the file again, and compare its SHA-256 with the publisher's. Kernels padded with zeros on "
            "purpose by the transform `pad` are not counted; for others, `allow: [zeros-at-end]`.",
        ),
    }
)
