import keras

from tfsparse.backend.weight_names import weight_names


def two_encoders():
    def encoder(name):
        encoded = keras.Input((4,))
        return keras.Model(encoded, keras.layers.Dense(8, name="a")(encoded), name=name)

    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.add([encoder("left")(inputs), encoder("right")(inputs)]))


def test_layers_of_one_name_have_weights_of_two_names():
    model = two_encoders()
    names = weight_names(model)
    assert [names[id(v)] for v in model.weights] == ["a/kernel", "a/bias", "a/kernel#2", "a/bias#2"]
