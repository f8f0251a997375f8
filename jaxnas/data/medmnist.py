"""MedMNIST: twelve sets of small 2-D medical images, read from their published .npz files.

Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8; files and licences (CC BY 4.0, for DermaMNIST
CC BY-NC 4.0) at https://medmnist.com. Three sets were published twice, with different counts: OrganAMNIST has
34,581 training images with medmnist 2 and 34,561 with medmnist 3. Both are accepted; the name of the data set
says when it is the older one.

Suits medical images; each set is downloaded once.
"""

from typing import NamedTuple

from jaxnas.data.arrays import Raw
from jaxnas.data.cache import fetch
from jaxnas.data.npz import read
from jaxnas.errors import InputError, unknown

URL = "https://zenodo.org/records/10519652/files/"
SIZES = (28, 64, 128, 224)


class Facts(NamedTuple):
    """What is published about a set."""

    task: str  # ordinal regression is multiclass here; task = "regression" takes the grade as a number
    classes: str  # separated by "; "
    md5: str  # of the files of SIZES, separated by spaces
    older_md5: str = ""  # of the 28-pixel file of medmnist 2, where it differs


ORGANS = (
    "bladder; femur-left; femur-right; heart; kidney-left; kidney-right; liver; lung-left; lung-right; "
    "pancreas; spleen"
)
SETS = {
    "pathmnist": Facts(
        "multiclass",
        "adipose; background; debris; lymphocytes; mucus; smooth muscle; normal colon mucosa; "
        "cancer-associated stroma; colorectal adenocarcinoma epithelium",
        "a8b06965200029087d5bd730944a56c1 55aa9c1e0525abe5a6b9d8343a507616 ac42d08fb904d92c244187169d1fd1d9 "
        "2c51a510bcdc9cf8ddb2af93af1eadec",
    ),
    "chestmnist": Facts(
        "multi_label",
        "atelectasis; cardiomegaly; effusion; infiltration; mass; nodule; pneumonia; pneumothorax; "
        "consolidation; edema; emphysema; fibrosis; pleural; hernia",
        "02c8a6516a18b556561a56cbdd36c4a8 9de6cd0b934ebb5b7426cfba5efbae16 db107e5590b27930b62dbaf558aebee3 "
        "45bd33e6f06c3e8cdb481c74a89152aa",
    ),
    "dermamnist": Facts(
        "multiclass",
        "actinic keratoses and intraepithelial carcinoma; basal cell carcinoma; benign keratosis-like "
        "lesions; dermatofibroma; melanoma; melanocytic nevi; vascular lesions",
        "0744692d530f8e62ec473284d019b0c7 b70a2f5635c6199aeaa28c31d7202e1f 2defd784463fa5243564e855ed717de1 "
        "8974907d8e169bef5f5b96bc506ae45d",
    ),
    "octmnist": Facts(
        "multiclass",
        "choroidal neovascularization; diabetic macular edema; drusen; normal",
        "c68d92d5b585d8d81f7112f81e2d0842 e229e9440236b774d9f0dfef9d07bdaf 0a97e76651ace45c5d943ee3f65b63ae "
        "abc493b6d529d5de7569faaef2773ba3",
    ),
    "pneumoniamnist": Facts(
        "binary",
        "normal; pneumonia",
        "28209eda62fecd6e6a2d98b1501bb15f 8f4eceb4ccffa70c672198ea285246c6 05b46931834c231683c68f40c47b2971 "
        "d6a3c71de1b945ea11211b03746c1fe1",
    ),
    "retinamnist": Facts(
        "multiclass",
        "0; 1; 2; 3; 4",
        "bd4c0672f1bba3e3a89f0e4e876791e4 afda852cc34dcda56f86ad2b2457dbcc e48e916a24454daf90583d4e6efb1a18 "
        "eae7e3b6f3fcbda4ae613ebdcbe35348",
    ),
    "breastmnist": Facts(
        "binary",
        "malignant; normal, benign",
        "750601b1f35ba3300ea97c75c52ff8f6 742edef2a1fd1524b2efff4bd7ba9364 363e4b3f8d712e9b5de15470a2aaadf1 "
        "b56378a6eefa9fed602bb16d192d4c8b",
    ),
    "bloodmnist": Facts(
        "multiclass",
        "basophil; eosinophil; erythroblast; immature granulocytes(myelocytes, metamyelocytes and "
        "promyelocytes); lymphocyte; monocyte; neutrophil; platelet",
        "7053d0359d879ad8a5505303e11de1dc 2b94928a2ae4916078ca51e05b6b800b adace1e0ed228fccda1f39692059dd4c "
        "b718ff6835fcbdb22ba9eacccd7b2601",
    ),
    "tissuemnist": Facts(
        "multiclass",
        "Collecting Duct, Connecting Tubule; Distal Convoluted Tubule; Glomerular endothelial cells; "
        "Interstitial endothelial cells; Leukocytes; Podocytes; Proximal Tubule Segments; Thick Ascending "
        "Limb",
        "ebe78ee8b05294063de985d821c1c34b 123ece2eba09d0aa5d698fda57103344 61b955355d7425a89687b06cca3ce0c2 "
        "b077128c4a949f0a4eb01517f9037b9c",
    ),
    "organamnist": Facts(
        "multiclass",
        ORGANS,
        "68e3f8846a6bd62f0c9bf841c0d9eacc 2dcccc29b88e6da5a01161ef20cda288 eeae80d0a227a8d099027e1b3cfd3b60 "
        "50747347e05c87dd3aaf92c49f9f3170",
        "866b832ed4eeba67bfb9edee1d5544e6",
    ),
    "organcmnist": Facts(
        "multiclass",
        ORGANS,
        "b9ceb9546e10131b32923c5bbeaea2b1 3ce34a8724ea6f548e6db4744d03b6a9 773c1f009daa3fe5d9a2a201b2a7ed94 "
        "050f5e875dc056f6768abf94ec9995d1",
        "0afa5834fb105f7705a7d93372119a21",
    ),
    "organsmnist": Facts(
        "multiclass",
        ORGANS,
        "9ab87b696fb54e2a387ebe992d6ed5f1 53a6d115339d874c25e309a994ff46d3 ded0c5fa01a95dc4978b956f613e9b8e "
        "b354719e553fbbb2513d5533f52a4cb1",
        "e5c39f1af030238290b9557d9503af9d",
    ),
}


def load(argument: str) -> Raw:
    """`NAME` or `NAME:SIZE`, as in `organamnist:64`; training, validation and test split."""
    name, _, pixels = argument.partition(":")
    if name not in SETS:
        raise unknown("data.source: medmnist", name, SETS)
    if pixels not in ("", *map(str, SIZES)):
        raise InputError(f"data.source: medmnist:{name} has no size {pixels!r}; it takes one of {SIZES}")
    facts = SETS[name]
    size = int(pixels or 28)
    older = (facts.older_md5,) if size == 28 and facts.older_md5 else ()
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    path, md5 = fetch(file, f"{URL}{file}?download=1", (facts.md5.split()[SIZES.index(size)], *older))
    note = " (the file of medmnist 2)" if md5 in older else ""
    return Raw(read(path), facts.task, tuple(facts.classes.split("; ")), f"medmnist:{argument}{note}")
