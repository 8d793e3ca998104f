import keras

from tfsparse.backend.weight_names import weight_names


def two_encoders():
    def encoder(name):
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="a")], name=name)

    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.add([encoder("left")(inputs), encoder("right")(inputs)]))


def test_layers_of_one_name_have_weights_of_two_names():
    model = two_encoders()
    names = weight_names(model)
    assert len(set(names.values())) == len(model.weights) == 4
    assert all(names[id(v)].split("#")[0] == v.path for v in model.weights)
