# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by openssl: a root, and leaves with every kind of fault.

    with Certs() as certs:
        certs.root                                  # PEM file, for smtp_tls_CAfile
        certs.leaf('good', san='DNS:mx.lab')        # (chain file, key file)
"""
import os
import shutil
import subprocess
import tempfile

CA_CONF = '''[ca]
default_ca = it
[it]
new_certs_dir = {dir}
database = {dir}/{name}.index
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
[any]
commonName = supplied
'''


def openssl(*args):
    r = subprocess.run(['openssl', *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if r.returncode != 0:
        raise RuntimeError('openssl %s: %s' % (' '.join(args), r.stdout))


class Certs:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='ekiden-certs-', dir='/tmp')
        os.chmod(self.dir, 0o755)
        self.root = self._authority('root', None)
        self.other_root = self._authority('other', None)
        self._authority('between', 'root')

    def path(self, name):
        return os.path.join(self.dir, name)

    def _key(self, name, kind='ec'):
        to = self.path(name + '.key')
        if kind == 'ec':
            openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', to)
        else:
            openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:%d' % kind, '-out', to)
        return to

    def _sign(self, name, by, subject, extensions, begin, end):
        """by: an authority; None: itself."""
        key, request, to = self.path(name + '.key'), self.path(name + '.csr'), self.path(name + '.pem')
        openssl('req', '-new', '-key', key, '-subj', '/CN=' + subject, '-out', request)
        signer = by or name
        conf, ext = self.path(signer + '.conf'), self.path(name + '.ext')
        with open(conf, 'w') as f:
            f.write(CA_CONF.format(dir=self.dir, name=signer))
        index = self.path(signer + '.index')
        if not os.path.exists(index):
            open(index, 'w').close()
        with open(ext, 'w') as f:
            f.write(extensions)
        openssl('ca', '-batch', '-notext', '-config', conf, '-in', request, '-out', to,
                '-keyfile', self.path(signer + '.key'), '-startdate', begin, '-enddate', end,
                '-extfile', ext, *(['-selfsign'] if by is None else ['-cert', self.path(by + '.pem')]))
        return to

    def _authority(self, name, by):
        self._key(name)
        return self._sign(name, by, 'Test ' + name, 'basicConstraints=critical,CA:TRUE\n'
                          'keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n',
                          '20240101000000Z', '20440101000000Z')

    def leaf(self, name, san='', cn='leaf', by='root', key='ec', usage='serverAuth',
             begin='20240101000000Z', end='20440101000000Z', chain=()):
        """(chain file, key file). by None: self-signed. chain: authorities that are sent along."""
        self._key(name, key)
        text = 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\n' % usage
        if san:
            text += 'subjectAltName=%s\n' % san
        leaf = self._sign(name, by, cn, text, begin, end)
        to = self.path(name + '.chain')
        with open(to, 'w') as f:
            for pem in (leaf, *[self.path(c + '.pem') for c in chain]):
                with open(pem) as p:
                    f.write(p.read())
        return to, self.path(name + '.key')

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()
