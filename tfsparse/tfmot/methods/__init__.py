"""The methods of single papers on the TFMOT road: what tf_keras forces and no more."""
