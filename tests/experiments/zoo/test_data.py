"""The batches of an epoch are a pure function of (seed, epoch), and they are the right images."""

import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsparse.experiments.zoo import data


def batches(dataset):
    return [(images.copy(), labels.copy()) for images, labels in dataset.as_numpy_iterator()]


def assert_same(left, right):
    assert len(left) == len(right) > 0
    for (x, y), (other_x, other_y) in zip(left, right, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


@pytest.fixture
def streamed(monkeypatch):
    """The digits on the road of the data that do not fit in memory."""
    monkeypatch.setattr(data, "_SHUFFLE_BUFFER", 300)

    def source(image_size):
        from sklearn.datasets import load_digits

        digits = load_digits()
        examples = tf.data.Dataset.from_tensor_slices((digits.images[..., None].astype("uint8"), digits.target))
        return data._streaming_source(
            examples.take(1437), examples.skip(1437), lambda *x: x, 1437, (8, 8, 1), num_classes=10, peak=16
        )

    monkeypatch.setattr(data, "_digits", source)


@pytest.fixture(params=["memory", "streamed"])
def road(request):
    if request.param == "streamed":
        request.getfixturevalue("streamed")


@pytest.mark.parametrize("augment", [None, "pad_crop_flip"])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(road, augment):
    settings = {"batch_size": 100, "seed": 7, "augment": augment, "epochs": 3}
    tf.random.set_seed(1)  # the program's seed is no input
    straight = batches(data.load("digits", **settings).train)
    tf.random.set_seed(2)
    resumed = batches(data.load("digits", first_epoch=1, **settings).train)
    assert len(straight) == 3 * 14
    assert_same(straight[14:], resumed)


def test_epochs_and_seeds_differ(road):
    def order(seed):
        loaded = data.load("digits", batch_size=100, seed=seed, epochs=2)
        return np.concatenate([labels for _, labels in batches(loaded.train)]).tolist()

    first, other = order(0), order(1)
    assert first[:1400] != first[1400:]
    assert first != other


def test_an_epoch_shows_every_image_at_most_once(road):
    loaded = data.load("digits", batch_size=479)  # 1,437 = 3 x 479: nothing is dropped
    images = np.concatenate([x for x, _ in batches(loaded.train)])
    assert len(np.unique(images.reshape(1437, -1), axis=0)) == 1437


def test_augmentation_differs_between_the_steps_and_epochs():
    still = np.concatenate([x for x, _ in batches(data.load("digits", batch_size=479, epochs=2).train)])
    moved = data.load("digits", batch_size=479, epochs=2, augment="pad_crop_flip")
    moved = np.concatenate([x for x, _ in batches(moved.train)])
    assert (still != moved).any(axis=(1, 2, 3)).mean() > 0.9


def test_digits_are_standardised_with_the_training_images():
    loaded = data.load("digits", batch_size=479)
    (x, y), *_ = batches(loaded.train)
    everything = np.concatenate([x for x, _ in batches(loaded.train)])
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((479, 8, 8, 1), np.float32, (479,), np.int64)
    assert (loaded.steps_per_epoch, loaded.num_classes, loaded.input_shape) == (3, 10, (8, 8, 1))
    np.testing.assert_allclose([everything.mean(), everything.std()], [0, 1], atol=1e-5)
    raw = everything * loaded.std + loaded.mean
    np.testing.assert_allclose([raw.min(), raw.max()], [0, 1], atol=1e-5)


def test_pixels_stay_between_0_and_1_if_asked_and_mean_and_std_say_so(road):
    plain, standardised = (data.load("digits", batch_size=479, standardize=wish) for wish in (False, True))
    assert (plain.mean, plain.std) == ((0.0,), (1.0,))
    for (x, y), (other_x, other_y) in zip(batches(plain.train), batches(standardised.train), strict=True):
        np.testing.assert_array_equal(y, other_y)
        assert (x.min(), x.max()) == (0, 1)
        np.testing.assert_array_equal(x, np.round(16 * x) / 16)
        np.testing.assert_allclose(x, other_x * standardised.std + standardised.mean, atol=1e-6)
    assert (max(x.max() for x, _ in batches(plain.validation)), plain.train.element_spec[0].dtype) == (1, tf.float32)


def test_the_digits_held_out_are_the_same_360_for_every_seed():
    one, other = (data.load("digits", seed=seed, validation_batch_size=100).validation for seed in (0, 1))
    assert_same(batches(one), batches(other))
    assert [len(y) for _, y in batches(one)] == [100, 100, 100, 60]
    assert np.bincount(np.concatenate([y for _, y in batches(one)])).min() >= 35  # stratified
    training = np.concatenate([x for x, _ in batches(data.load("digits", batch_size=479).train)])
    held_out = np.concatenate([x for x, _ in batches(one)])
    assert len(np.unique(np.concatenate([training, held_out]).reshape(1797, -1), axis=0)) == 1797


def test_fit_reads_the_epochs_back_to_back():
    loaded = data.load("digits", batch_size=128, epochs=3, first_epoch=1)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(
        loaded.train,
        steps_per_epoch=loaded.steps_per_epoch,
        epochs=3,
        initial_epoch=1,
        validation_data=loaded.validation,
        shuffle=False,
        verbose=0,
    )
    assert history.epoch == [1, 2]
    assert int(model.optimizer.iterations) == 2 * loaded.steps_per_epoch == 22


def test_a_channel_without_contrast_is_not_divided_by_zero():
    mean, std = data._statistics([np.full((2, 3, 3, 1), 7, "uint8")])
    assert (mean.tolist(), std.tolist()) == ([7.0], [1.0])


def test_image_size_resizes():
    loaded = data.load("digits", image_size=12)
    assert loaded.input_shape == batches(loaded.validation)[0][0].shape[1:] == (12, 12, 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"augment": "mixup"}, "augment='mixup' is unknown.*pad_crop_flip"),
        ({"epochs": 3, "first_epoch": 3}, "leave no epoch to train.*write epochs=4"),
        ({"first_epoch": -1}, "leave no epoch"),
        ({"batch_size": 2000}, "exceeds the 1437 training images.*batch_size=128"),
        ({"image_size": 10**12}, "image_size=1000000000000: expected a side of 1 to 4096 pixels"),
        ({"image_size": 4000}, "image_size=4000: the digits are resized in memory; write at most 512"),
    ],
)
def test_wrong_arguments_are_refused_with_the_line_to_write(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.load("digits", **settings)


# --- TFDS: what needs no data


def test_an_unknown_dataset_is_answered_with_the_nearest_names(tmp_path):
    (tmp_path / "my_own_digits").mkdir()
    with pytest.raises(ValueError, match=r"Unknown dataset 'cifar1'.*cifar10.*write load\('cifar10"):
        data.load("cifar1", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"write load\('my_own_digits'\)"):
        data.load("my_own_digit", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["mnist:99.0.0", "mnist/speed=1", "gs://mnist", "mnist[0]", "", "huggingface:mnist"])
def test_what_is_no_name_of_tfds_is_one_sentence(tmp_path, name):
    with pytest.raises(ValueError, match=r"is not a dataset of TFDS \(.*\). Write e.g. load\('cifar10'\)") as caught:
        data.load(name, data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_dataset_that_cannot_be_downloaded_says_where_it_looked(tmp_path, monkeypatch):
    def no_network(*_):
        raise OSError("no such host")

    monkeypatch.setattr(data.socket, "getaddrinfo", no_network)
    monkeypatch.setattr(data.urllib.request, "getproxies", dict)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.DatasetUnavailable, match=rf"'fashion_mnist' is not prepared in {tmp_path}.*TFDS_DATA_DIR"):
        data.load("fashion_mnist")
    assert list(tmp_path.iterdir()) == []  # nothing half-made is left behind


def test_a_dataset_without_images_and_labels_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not an image classification dataset.*description"):
        data.load("ag_news_subset", data_dir=tmp_path)


def test_images_of_many_sizes_ask_for_one(tmp_path):
    with pytest.raises(ValueError, match=r"differ in size.*write load\('imagenette', image_size=224\)"):
        data.load("imagenette", data_dir=tmp_path)


# --- TFDS: real data


@pytest.fixture
def prepared():
    beside = pathlib.Path(__file__).parents[4] / "shared" / "tensorflow_datasets"
    folder = pathlib.Path(os.environ.get("TFDS_DATA_DIR", beside))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"MNIST IS NOT PREPARED in {folder}: set TFDS_DATA_DIR to a folder that holds mnist/")
    return folder


@pytest.mark.real_data
def test_mnist_in_memory(prepared):
    loaded = data.load("mnist", data_dir=prepared)
    assert (loaded.steps_per_epoch, loaded.num_classes, loaded.input_shape) == (468, 10, (28, 28, 1))
    np.testing.assert_allclose([*loaded.mean, *loaded.std], [0.1307, 0.3081], atol=5e-5)
    assert sum(len(y) for _, y in batches(loaded.validation)) == 10_000


@pytest.mark.exhaustive
@pytest.mark.real_data
def test_mnist_streamed(prepared, monkeypatch):
    in_memory = batches(data.load("mnist", data_dir=prepared).validation.take(2))
    monkeypatch.setattr(data, "_MEMORY_LIMIT", 0)
    streamed = data.load("mnist", data_dir=prepared, epochs=3, first_epoch=2)
    np.testing.assert_allclose([*streamed.mean, *streamed.std], [0.1307, 0.3081], atol=2e-3)  # of the first 10,000
    for (x, y), (other_x, other_y) in zip(in_memory, batches(streamed.validation.take(2)), strict=True):
        np.testing.assert_allclose(x, other_x, atol=0.02)
        np.testing.assert_array_equal(y, other_y)
    tf.random.set_seed(3)
    again = data.load("mnist", data_dir=prepared, epochs=3, first_epoch=2)
    assert_same(batches(streamed.train.take(5)), batches(again.train.take(5)))
