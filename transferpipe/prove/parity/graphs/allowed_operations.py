"""Which operations of TensorFlow only compute: those that a SavedModel of a stranger may run.

An operation reaches beyond its graph by a text that names a place (a file, an address, a registered function), or by
what it keeps. One that takes no text and keeps nothing can only compute, whatever release adds it. Of the others, those
below were looked at one by one.
"""

from __future__ import annotations

from transferpipe.models.keras_private import tensorflow_operation

_DT_STRING, _DT_STRING_REF = 7, 107  # tensorflow/core/framework/types.proto
# Those that read what the saver of the same file names, and a table from an asset: who lets them be run looks further.
RESTORING = frozenset(("RestoreV2", "Restore", "RestoreSlice"))
FILLING = frozenset(("InitializeTableFromTextFile", "InitializeTableFromTextFileV2"))
# They take texts, and compute with them alone.
_OF_TEXTS = frozenset(
    """
    AsString AudioSummary AudioSummaryV2 DecodeAndCropJpeg DecodeBase64 DecodeBmp DecodeCSV DecodeCompressed DecodeGif
    DecodeImage DecodeJSONExample DecodeJpeg DecodeJxl DecodePaddedRaw DecodePng DecodeRaw DecodeWav DecodeWebP
    DeserializeManySparse EncodeBase64 EncodeJpeg ExtractJpegShape Fingerprint HistogramSummary ImageSummary
    MergeSummary ParseExample ParseExampleV2 ParseSequenceExample ParseSequenceExampleV2 ParseSingleExample
    ParseSingleSequenceExample ParseTensor RaggedCross ReduceJoin RegexFullMatch RegexReplace ScalarSummary SdcaFprint
    ShardedFilename ShardedFilespec SparseCrossV2 StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin
    StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip StringToHashBucket
    StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Substr TensorSummary TensorSummaryV2
    UnicodeDecode UnicodeDecodeWithOffsets UnicodeTranscode UnsortedSegmentJoin
    """.split()  # noqa: SIM905 -- easier to compare with TensorFlow than quoted names
)
# A setting of theirs is a text that chooses a formula, or that an error would say. What an XlaCallModule calls beside
# its program has to be registered in the process, which a file cannot do.
_WITH_SETTINGS = frozenset(
    """
    Assert BatchFunction Case CheckNumerics CheckNumericsV2 CompositeTensorVariantFromComponents
    CompositeTensorVariantToComponents DataFormatDimMap DataFormatVecPermute DenseToDenseSetOperation
    DenseToSparseSetOperation Einsum Enter ExtractGlimpse ExtractGlimpseV2 GatherNd GuaranteeConst If
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 PartitionedCall PreventGradient RaggedTensorToTensor RefEnter
    ScaleAndTranslate ScaleAndTranslateGrad ScatterNd ScatterNdAdd ScatterNdMax ScatterNdMin ScatterNdNonAliasingAdd
    ScatterNdSub ScatterNdUpdate SparseToSparseSetOperation StatefulPartitionedCall TensorScatterAdd TensorScatterMax
    TensorScatterMin TensorScatterSub TensorScatterUpdate UniformQuantizedConvolution UniformQuantizedConvolutionHybrid
    While XlaCallModule XlaConv XlaConvV2 XlaDot XlaDotV2 XlaEinsum XlaGather XlaIf XlaScatter XlaSharding XlaSvd
    XlaWhile
    """.split()  # noqa: SIM905 -- easier to compare with TensorFlow than quoted names
)
# What they keep lies in the process: variables, tables, lists, queues, random numbers, the state of a recurrent kernel.
_KEEPING = frozenset(
    """
    AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable AnonymousMutableHashTableOfTensors
    AssignAddVariableOp AssignSubVariableOp AssignVariableOp ConsumeMutexLock CudnnRNN CudnnRNNBackprop
    CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNV2 CudnnRNNV3 DeepCopy DestroyResourceOp DestroyTemporaryVariable
    DeviceIndex DisableCopyOnRead Empty FIFOQueue FIFOQueueV2 HashTable HashTableV2 InitializeTable
    InitializeTableFromDataset InitializeTableV2 LookupTableExport LookupTableExportV2 LookupTableFind LookupTableFindV2
    LookupTableImport LookupTableImportV2 LookupTableInsert LookupTableInsertV2 LookupTableRemoveV2 LookupTableSize
    LookupTableSizeV2 Multinomial MutableDenseHashTable MutableDenseHashTableV2 MutableHashTable
    MutableHashTableOfTensors MutableHashTableOfTensorsV2 MutableHashTableV2 MutexLock MutexV2 NonDeterministicInts
    ParameterizedTruncatedNormal QueueCloseV2 QueueDequeueManyV2 QueueDequeueUpToV2 QueueDequeueV2 QueueEnqueueManyV2
    QueueEnqueueV2 QueueIsClosedV2 QueueSizeV2 RandomCrop RandomGamma RandomPoisson RandomPoissonV2 RandomShuffle
    RandomStandardNormal RandomUniform RandomUniformInt ReadVariableOp ResourceApplyAdaMax ResourceApplyAdadelta
    ResourceApplyAdagrad ResourceApplyAdagradDA ResourceApplyAdagradV2 ResourceApplyAdam ResourceApplyAdamWithAmsgrad
    ResourceApplyAddSign ResourceApplyCenteredRMSProp ResourceApplyFtrl ResourceApplyFtrlV2 ResourceApplyGradientDescent
    ResourceApplyKerasMomentum ResourceApplyMomentum ResourceApplyPowerSign ResourceApplyProximalAdagrad
    ResourceApplyProximalGradientDescent ResourceApplyRMSProp ResourceCountUpTo ResourceGather ResourceGatherNd
    ResourceScatterAdd ResourceScatterDiv ResourceScatterMax ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd
    ResourceScatterNdMax ResourceScatterNdMin ResourceScatterNdSub ResourceScatterNdUpdate ResourceScatterSub
    ResourceScatterUpdate ResourceSparseApplyAdadelta ResourceSparseApplyAdagrad ResourceSparseApplyAdagradDA
    ResourceSparseApplyAdagradV2 ResourceSparseApplyCenteredRMSProp ResourceSparseApplyFtrl ResourceSparseApplyFtrlV2
    ResourceSparseApplyKerasMomentum ResourceSparseApplyMomentum ResourceSparseApplyProximalAdagrad
    ResourceSparseApplyProximalGradientDescent ResourceSparseApplyRMSProp ResourceStridedSliceAssign RngReadAndSkip
    RngSkip SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 Stack StackClose StackCloseV2 StackPop StackPopV2
    StackPush StackPushV2 StackV2 StatefulRandomBinomial StatefulStandardNormal StatefulStandardNormalV2
    StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt StatelessRandomGetAlg
    TemporaryVariable TensorArray TensorArrayClose TensorArrayCloseV2 TensorArrayCloseV3 TensorArrayConcat
    TensorArrayConcatV2 TensorArrayConcatV3 TensorArrayGather TensorArrayGatherV2 TensorArrayGatherV3 TensorArrayGrad
    TensorArrayGradV2 TensorArrayGradV3 TensorArrayGradWithShape TensorArrayPack TensorArrayRead TensorArrayReadV2
    TensorArrayReadV3 TensorArrayScatter TensorArrayScatterV2 TensorArrayScatterV3 TensorArraySize TensorArraySizeV2
    TensorArraySizeV3 TensorArraySplit TensorArraySplitV2 TensorArraySplitV3 TensorArrayUnpack TensorArrayV2
    TensorArrayV3 TensorArrayWrite TensorArrayWriteV2 TensorArrayWriteV3 Timestamp TruncatedNormal VarHandleOp
    VarIsInitializedOp Variable VariableShape VariableV2
    """.split()  # noqa: SIM905 -- easier to compare with TensorFlow than quoted names
)
# Data that pass through a graph from tensors to tensors; those from files are none of these.
_OF_DATA = frozenset(
    """
    AnonymousIterator AnonymousIteratorV2 AnonymousIteratorV3 AnonymousMemoryCache AnonymousRandomSeedGenerator
    AnonymousSeedGenerator BatchDataset BatchDatasetV2 ConcatenateDataset DatasetCardinality DatasetToSingleElement
    DeleteIterator DeleteMemoryCache DeleteRandomSeedGenerator DeleteSeedGenerator DummyIterationCounter
    DummyMemoryCache DummySeedGenerator FilterDataset FlatMapDataset GeneratorDataset GlobalShuffleDataset
    GroupByReducerDataset GroupByWindowDataset IndexFlatMapDataset InterleaveDataset IteratorGetNext
    IteratorGetNextAsOptional IteratorGetNextSync IteratorV2 LegacyParallelInterleaveDatasetV2 ListDataset MakeIterator
    MapAndBatchDataset MapDataset OneShotIterator OptimizeDataset OptimizeDatasetV2 OptionsDataset PaddedBatchDataset
    PaddedBatchDatasetV2 ParallelBatchDataset ParallelFilterDataset ParallelInterleaveDataset
    ParallelInterleaveDatasetV2 ParallelInterleaveDatasetV3 ParallelInterleaveDatasetV4 ParallelMapDataset
    ParallelMapDatasetV2 ParseExampleDataset ParseExampleDatasetV2 PrefetchDataset RandomDataset RandomDatasetV2
    RangeDataset ReduceDataset RepeatDataset ScanDataset ShardDataset ShuffleAndRepeatDataset ShuffleAndRepeatDatasetV2
    ShuffleDataset ShuffleDatasetV2 ShuffleDatasetV3 SkipDataset SparseTensorSliceDataset TakeDataset TakeWhileDataset
    TensorDataset TensorSliceDataset UnbatchDataset UniqueDataset WeightedFlatMapDataset WindowDataset ZipDataset
    """.split()  # noqa: SIM905 -- easier to compare with TensorFlow than quoted names
)
_LOOKED_AT = _OF_TEXTS | _WITH_SETTINGS | _KEEPING | _OF_DATA


def is_allowed(name: str) -> bool:
    """Tell whether an operation only computes; one that this release of TensorFlow lacks is never run."""
    return name in _LOOKED_AT or _only_computes(name)


def _only_computes(name: str) -> bool:
    known = tensorflow_operation(name)
    if known is None:
        return True
    texts = [a for a in known.attr if a.type in ("string", "list(string)") and not a.HasField("allowed_values")]
    texts += [a for a in known.input_arg if a.type in (_DT_STRING, _DT_STRING_REF)]
    return not known.is_stateful and not texts
